"""Commands test where they write before any work, and name the option or setting that moves it.

What else each command needs is absent here, and would be missed only after the test.
"""

import pytest

MODEL = ("--model", "absent")
SCORED = ("--predictions", "absent", "--dataset", "absent", "--output")


@pytest.mark.parametrize(
    ("name", "arguments", "moved_by"),
    [
        ("predict", (*MODEL, "--input", "absent", "--output", "file"), "--output"),
        ("export", (*MODEL, "--output", "file/x.safetensors"), "--output"),
        ("export", (*MODEL, "--output", "taken.safetensors"), "--output"),
        ("export", (*MODEL, "--format", "stablehlo", "--output", "file"), "--output"),
        ("export", (*MODEL, "--format", "stablehlo", "--output", "exported"), "--output"),
        ("evaluate", (*SCORED, "file"), "--output"),
        ("evaluate", (*SCORED, "scores"), "--output"),
        ("evaluate", (*SCORED, "free", "--write-samples", "file"), "--write-samples"),
        ("report", ("--scores", "absent", "--output", "file"), "--output"),
        ("check", ("--dataset", "absent", "--output", "file"), "--output"),
        ("check", ("--dataset", "absent", "--output", "checked"), "--output"),
        ("benchmark", ("--output", "file"), "--output"),
        ("benchmark", ("--output", "free", "--work", "file"), "--work"),
        ("preprocess", ("--set", "data.cache=file", "--set", "data.root=absent"), "data.cache"),
    ],
)
def test_a_place_that_is_taken(run_here, tmp_path, monkeypatch, name, arguments, moved_by):
    """A file lies where a folder should be made, or a folder where a file should be written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for folder in (
        "taken.safetensors",
        "exported/model.json",
        "scores/lesions.csv",
        "checked/check.html",
    ):
        (tmp_path / folder).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    done = run_here(name, *arguments)
    assert done.returncode == 2
    assert done.stderr.endswith(f"; choose another folder with {moved_by}\n")
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
