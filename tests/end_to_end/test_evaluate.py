"""bin/evaluate.py and bin/report.py as a user runs them, on a tiny run's predictions."""

import json
import shutil

import pytest
from tiny_run import run

from kitsjax.evaluate.read_results import read_evaluation

pytestmark = pytest.mark.slow


def evaluate(run_command, folder, predictions, output, *more):
    return run_command(
        "evaluate", "--predictions", predictions, "--dataset", folder / "data" / "phantom",
        "--output", output, "--workers", 1, *more,
    )  # fmt: skip


@pytest.fixture
def case_id(held_out):
    return held_out[0].name.removesuffix(".nii.gz")


def test_scores_are_those_of_the_run(finished, case_id, tmp_path):
    folder, _ = finished
    own = folder / "run"
    done = evaluate(run, folder, own / "predictions", tmp_path, "--split", own / "split.json")
    assert done.returncode == 0, done.stderr
    for words in ("Kidney + Masses", "1 of 1 cases scored", str(tmp_path)):
        assert words in done.stdout
    for name in ("evaluation.csv", "evaluation_samples.csv", "scores.csv", "lesions.csv"):
        assert (tmp_path / name).read_bytes() == (own / "scores" / name).read_bytes()
    assert read_evaluation(tmp_path).case_ids == [case_id]


def test_missing_cases_fail_unless_allowed(finished, run_here, tmp_path):
    folder, _ = finished
    predictions = folder / "run/predictions"
    done = evaluate(run_here, folder, predictions, tmp_path, "--against", "majority")
    assert done.returncode == 2
    assert done.stderr.count("no prediction; predict it, or pass --allow-missing") == 2
    assert "1 of 3 cases scored" in done.stdout
    assert not (tmp_path / "evaluation_samples.csv").exists()
    allowed = evaluate(run_here, folder, predictions, tmp_path, "--allow-missing")
    assert allowed.returncode == 0
    assert "1 of 3 cases scored" in allowed.stdout


def test_bad_predictions_are_one_line_each(finished, case_id, run_here, tmp_path):
    folder, _ = finished
    bad = tmp_path / "bad"
    shutil.copytree(folder / "run/predictions", bad)
    (bad / f"{case_id}.nii.gz").write_text("no image")
    (bad / "case_99999.nii.gz").write_text("no case")
    done = evaluate(run_here, folder, bad, tmp_path / "out", "--allow-missing")
    assert done.returncode == 2
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    for case, line in zip((case_id, "case_99999"), failed, strict=True):
        assert case in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists(), "nothing was scored, so nothing is written"


def test_a_split_without_held_out_cases_is_told(finished, case_id, run_here, tmp_path):
    folder, _ = finished
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": [case_id], "held_out": []}))
    done = evaluate(
        run_here, folder, folder / "run/predictions", tmp_path / "out", "--split", split
    )
    assert done.returncode == 2
    assert done.stderr == f"evaluate.py: {split}: holds out no case, so none is scored\n"


@pytest.mark.parametrize("option", ["--predictions", "--dataset", "--split"])
def test_a_missing_path_is_one_line(finished, run_here, tmp_path, option):
    folder, _ = finished
    predictions = folder / "run/predictions"
    done = evaluate(run_here, folder, predictions, tmp_path / "out", option, "/nowhere")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "/nowhere" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--output", "file", "file: is a file"), ("--write-samples", "file", "file: is a file"),
     ("--workers", "-1", "--workers")],
)  # fmt: skip
def test_bad_options_are_refused_before_any_work(
    finished, run_here, tmp_path, option, value, message
):
    folder, _ = finished
    (tmp_path / "file").write_text("kept")
    done = evaluate(
        run_here, folder, folder / "run/predictions", tmp_path / "out",
        option, tmp_path / value if value == "file" else value,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "score:" not in done.stderr, "no bar has begun"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_report_of_the_runs_scores(finished, case_id, tmp_path):
    folder, _ = finished
    done = run(
        "report", "--scores", folder / "run/scores", "--output", tmp_path, "--compare", "paper"
    )
    assert done.returncode == 0, done.stderr
    assert "Kidney + Masses" in done.stdout
    page = (tmp_path / "report.html").read_text()
    assert case_id in page
    assert "0.971" in page, "the paper's own score"
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"table_1.md", "table_1.csv", "table_1.tex"}
    for start in ("figure_2", "figure_3", "figure_4", "figure_6"):
        assert {f.split(".")[-1] for f in names if f.startswith(start)} == {"png", "pdf"}, start
    # One case has no two halves.
    assert not any(name.startswith("figure_5") for name in names)


def test_report_without_scores_is_one_line(run_here, tmp_path):
    done = run_here("report", "--scores", tmp_path / "nowhere", "--output", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
