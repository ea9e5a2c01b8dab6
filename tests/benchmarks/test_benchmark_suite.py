import json
import runpy
import signal
import subprocess
import sys

import pytest

from benchmarks import suite
from benchmarks.definition import Measurement
from benchmarks.learn_task import LearnOptions
from benchmarks.results import Row
from benchmarks.run_process import ROOT
from kitsjax.errors import InputError

COMMAND = ROOT / "bin" / "benchmark.py"

NAMES = [
    "resample", "preprocess", "batches", "step", "epoch", "predict", "score", "start", "scaling",
    "learn", "forms",
]  # fmt: skip


@pytest.fixture
def refusal(monkeypatch, capsys):
    """A function that runs the command in this process and returns the last line of its error."""

    def refuse(*args):
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        monkeypatch.setattr(sys, "argv", [str(COMMAND), *args])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(COMMAND), run_name="__main__")
        assert stopped.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    return refuse


def test_benchmarks_are_listed_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    found = subprocess.run(
        [sys.executable, COMMAND, "--list"], cwd=tmp_path, capture_output=True, text=True
    )
    assert [line.split()[0] for line in found.stdout.splitlines()] == NAMES


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--only", "resmaple", "--output", "x"), "--only resmaple: no such benchmark"),
        (("--only", "growth", "--output", "x"), f"choose from {', '.join(NAMES)}"),
        (("--rounds", "0", "--output", "x"), "--rounds 0: take at least 1"),
        ((), "--output is needed"),
        (("--only", "learn", "--set", "train.epoch=1", "--output", "x"), "train.epoch"),
        (("--only", "learn", "--rates", "0", "--output", "x"), "--rates 0.0: give"),
    ],
)
def test_wrong_options_are_refused_in_one_line(args, message, tmp_path, refusal):
    assert message in refusal(*(str(tmp_path / a) if a == "x" else a for a in args))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"rows": [{"benchmark": "step"}]}', "has results of step that would be lost"),
        ("[]", "not as the benchmark writes it"),
    ],
)
def test_other_results_are_not_replaced(text, message, tmp_path, refusal):
    found = tmp_path / "benchmark.json"
    found.write_text(text)
    assert message in refusal("--only", "resample", "--output", str(tmp_path))
    assert found.read_text() == text


def test_the_scaling_has_files_of_its_own(monkeypatch, tmp_path):
    text = '{"rows": [{"benchmark": "step"}]}'
    (tmp_path / "benchmark.json").write_text(text)
    drawn = []
    monkeypatch.setattr(suite, "run_scaling", lambda output, _: drawn.append(output))
    assert suite.run_suite(tmp_path, ["scaling"]) == ""
    assert drawn == [tmp_path]
    assert (tmp_path / "benchmark.json").read_text() == text


def test_learning_runs_only_when_it_is_named(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(suite, "describe_machine", lambda: {"accelerators": "none"})
    monkeypatch.setattr(suite.learn, "check_learn", lambda _: None)
    monkeypatch.setattr(suite, "run_scaling", lambda *_: ran.append("scaling"))
    monkeypatch.setattr(
        suite, "run_benchmark", lambda benchmark, _: ran.append(benchmark.name) or []
    )
    monkeypatch.setattr(
        suite.learn, "run_learn", lambda *args: ran.append(args) or "what was learned"
    )
    suite.run_suite(tmp_path)
    assert ran == NAMES[:-2]
    ran.clear()
    (tmp_path / "benchmark.json").write_text('{"rows": [{"benchmark": "step"}]}')
    choices = LearnOptions(rates=[0.05])
    text = suite.run_suite(tmp_path, ["learn"], rounds=2, work=tmp_path / "work", options=choices)
    assert text == "what was learned"
    assert ran == [(tmp_path, tmp_path / "work" / "learn", choices, 2)]


def test_learning_needs_a_folder_that_stays(monkeypatch, tmp_path):
    """Hours of training, and the log that a message names, must not go with a temporary one."""
    monkeypatch.setattr(suite.learn, "check_learn", lambda _: None)
    with pytest.raises(InputError, match="learn: give --work FOLDER"):
        suite.run_suite(tmp_path / "out", ["learn"])
    assert not list(tmp_path.iterdir())


def test_forms_take_the_settings_of_a_run(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(suite, "describe_machine", lambda: {"accelerators": "none"})
    monkeypatch.setattr(suite.forms, "run_forms", lambda *args: ran.append(args) or "a table")
    own = tmp_path / "own.toml"
    choices = LearnOptions(own, ["network.features=4"])
    with pytest.raises(InputError, match="cannot read the settings"):
        suite.run_suite(tmp_path, ["step", "forms"], rounds=2, options=choices)
    own.touch()
    assert suite.run_suite(tmp_path, ["forms"], rounds=2, options=choices) == "a table"
    assert ran == [(tmp_path, "small", own, ["network.features=4"], 2)]


@pytest.mark.parametrize(
    ("names", "choices"),
    [
        (["step"], LearnOptions(overrides=["network.features=4"])),
        (["scaling"], LearnOptions("own.toml")),
        (["forms"], LearnOptions(rates=[0.05])),
        (["step", "forms"], LearnOptions(test="more")),
    ],
)
def test_options_that_do_nothing_are_refused(tmp_path, names, choices):
    with pytest.raises(InputError, match="name it with --only, or leave them out"):
        suite.run_suite(tmp_path, names, options=choices)


def test_earlier_results_are_set_aside(monkeypatch, tmp_path):
    """The run that replaces them may be ended after its first benchmark."""
    earlier = '{"rows": [{"benchmark": "step"}, {"benchmark": "score"}]}'
    (tmp_path / "benchmark.json").write_text(earlier)

    def run_benchmark(benchmark, _):
        if benchmark.name == "score":
            raise InputError("ended")
        return [Row(benchmark.name, "", "work", None, "", 1, {"kitsjax": [Measurement([2.0])]})]

    monkeypatch.setattr(suite, "run_benchmark", run_benchmark)
    with pytest.raises(InputError, match="ended"):
        suite.run_suite(tmp_path, ["score", "step"])
    assert (tmp_path / "benchmark.json").read_text() == earlier
    for _ in range(2):
        with pytest.raises(InputError, match="ended"):
            suite.run_suite(tmp_path, ["step", "score"])
    assert (tmp_path / "benchmark.earlier-1.json").read_text() == earlier
    assert "score" not in (tmp_path / "benchmark.earlier-2.json").read_text()
    assert (tmp_path / "benchmark.earlier-2.md").exists()


def test_results_are_written_each_time(monkeypatch, tmp_path):
    monkeypatch.setattr(suite, "describe_machine", lambda: {"accelerators": "none"})
    before = []

    def run_benchmark(benchmark, options):
        before.append(sorted(path.name for path in tmp_path.iterdir()))
        assert (options.size, options.platform, options.rounds) == ("small", "cpu", 2)
        return [Row(benchmark.name, "", "work", None, "", 1, {"kitsjax": [Measurement([2.0])]})]

    monkeypatch.setattr(suite, "run_benchmark", run_benchmark)
    text = suite.run_suite(tmp_path, ["step", "score", "step"], rounds=2)
    assert before == [[], ["benchmark.json", "benchmark.md"]]
    rows = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert [row["benchmark"] for row in rows] == ["step", "score"]
    assert "| score | 2 s |" in (tmp_path / "benchmark.md").read_text()
    assert "kitsjax beside its baselines" in text
