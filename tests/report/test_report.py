import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from kitsjax.command import run_command
from kitsjax.errors import InputError
from kitsjax.evaluate.results import Evaluation, Failure, Lesion, Score
from kitsjax.evaluate.write_results import write_evaluation
from kitsjax.labels import KITS
from kitsjax.report.report import draw_figures, write_report

COMMAND = Path(__file__).parents[2] / "bin" / "report.py"
CASES = ("case_00001", "case_00002")
AFFINE = np.array([[0, 0, -5.0, 0], [0, -5.0, 0, 0], [-5.0, 0, 0, 0], [0, 0, 0, 1]])
EPOCHS = [
    {"kind": "epoch", "epoch": n, "train_loss": 1 / n, "validation_loss": 2 / n, "pseudo_dice": 0.5,
     "pseudo_dice_average": 0.4}
    for n in (1, 2, 3)
]  # fmt: skip
TABLES = {
    f"{name}.{suffix}"
    for name in ("table_1", "failure_modes", "sensitivity", "cases")
    for suffix in ("md", "csv", "tex")
}


def figures(*names):
    return {f"{name}.{suffix}" for name in names for suffix in ("png", "pdf")}


SLICES = figures("figure_3_best", "figure_6_worst")
CURVES = figures("figure_2_training")
CHARTS = figures("figure_4_boxes", "figure_5_volume", "figure_7_sensitivity")


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, AFFINE), path)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """An evaluation of two small cases, whose data set and predictions exist."""
    root = tmp_path_factory.mktemp("scored")
    dataset, predictions = root / "data", root / "run" / "predictions"
    label = np.zeros((4, 30, 30), np.uint8)
    label[1:3, 8:16, 8:16] = 1
    label[1:3, 9:13, 9:13] = 2
    for case_id in CASES:
        save(dataset / case_id / "imaging.nii.gz", (label * 60.0 - 40).astype(np.float32))
        save(dataset / case_id / "aggregated_MAJ_seg.nii.gz", label)
        save(predictions / f"{case_id}.nii.gz", np.roll(label, 1, axis=1))
    scores = tuple(
        Score(case_id, name, against, 1, 0.9 - 0.1 * i, 0.8, 5.0, 30.0, 30.0 + i, 1)
        for i, case_id in enumerate(CASES)
        for name in KITS.evaluation_keys
        for against in ("majority", "individual")
    )
    lesions = tuple(
        Lesion(case_id, "truth", "tumor", 1, 4.0, "detected", 0.9, 0.1, 0.0, 1) for case_id in CASES
    )
    samples = tuple(s._replace(against="a") for s in scores if s.against == "individual")
    return Evaluation(
        scores, samples, lesions, predictions=str(predictions), dataset=str(dataset),
        versions={"kitsjax": "0"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(scored, tmp_path_factory):
    """A report with every figure that two cases allow: its folder and the paths returned."""
    folder = tmp_path_factory.mktemp("report")
    return folder, write_report(scored, folder, EPOCHS, "paper")


@pytest.fixture(scope="module")
def printed(scored, tmp_path_factory):
    """The same report by the command: the ended process and the output folder."""
    root = tmp_path_factory.mktemp("command")
    write_evaluation(root / "run" / "scores", scored)
    rows = "".join(str(row).replace("'", '"') + "\n" for row in EPOCHS)
    (root / "run" / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n' + rows)
    arguments = ["--scores", root / "run" / "scores", "--output", root / "report"]
    done = subprocess.run(
        [sys.executable, COMMAND, *map(str, arguments), "--compare", "paper"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done, root / "report"


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_the_folder_holds_what_was_returned(report):
    folder, written = report
    assert names(folder) == TABLES | SLICES | CURVES | CHARTS | {"report.html"}
    assert sorted(written) == sorted(folder.iterdir())
    assert written[-1].name == "report.html"


def test_tables_and_page_hold_the_scores(report):
    folder, _ = report
    # The means of 0.9 and 0.8, and the paper's Table 1 beside them.
    for name in ("table_1.md", "table_1.csv", "table_1.tex", "report.html"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "0.85" in text, name
        assert "0.971" in text, name
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 6


def test_the_command_prints_table_1(printed):
    """Its last line says where the page is; the log was found beside the scores."""
    done, output = printed
    assert done.returncode == 0, done.stderr
    assert "Surface Dice" in done.stdout
    assert "0.850" in done.stdout
    assert done.stdout.splitlines()[-1] == f"report: {output / 'report.html'}"
    assert names(output) >= CURVES | CHARTS


def test_the_same_evaluation_gives_the_same_bytes(report, printed):
    """Two processes write equal reports."""
    folder, output = report[0], printed[1]
    assert names(folder) == names(output)
    for path in folder.iterdir():
        assert (output / path.name).read_bytes() == path.read_bytes(), path.name


def test_files_of_an_earlier_report_do_not_stay(scored, tmp_path):
    earlier = ("figure_2_training.png", "figure_3_best.pdf", "report.html", "absent_classes.tex")
    for name in earlier:
        (tmp_path / name).write_text("stale")
    (tmp_path / "mine.png").write_text("kept")
    leftover = tmp_path / ".host-0-1-01234567.partial.report.html"
    leftover.touch()
    os.utime(leftover, (1, 1))
    written = write_report(replace(scored, dataset="/nowhere/kits21"), tmp_path)
    assert {path.name for path in written} == TABLES | CHARTS | {"report.html"}
    assert names(tmp_path) == TABLES | CHARTS | {"report.html", "mine.png"}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "stale" not in page
    assert "Not drawn: no training log, or no epoch in it; give the run" in page
    assert page.count("Not drawn: /nowhere/kits21: no such data folder") == 2
    assert page.count("Say with --predictions and --dataset where these folders are now.") == 2


def test_one_case_is_reported(scored, tmp_path):
    one = replace(scored, scores=scored.scores[: 1 * 6], lesions=())
    assert one.case_ids == [CASES[0]]
    written = write_report(one, tmp_path)
    assert {path.name for path in written} >= TABLES | SLICES | {"report.html"}


def test_folders_that_moved_can_be_given_anew(scored):
    moved = replace(scored, predictions="/nowhere/a", dataset="/nowhere/b")
    drawings = draw_figures(moved, EPOCHS, scored.predictions, scored.dataset)
    assert all(drawing.figure for drawing in drawings)
    assert all("Not drawn" not in drawing.caption for drawing in drawings)


def test_a_folder_given_anew_must_exist(scored, tmp_path):
    with pytest.raises(InputError, match="no such data folder"):
        write_report(scored, tmp_path / "out", dataset=tmp_path / "no")
    assert names(tmp_path) == set()


def test_without_a_scored_case_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="no case was scored"):
        write_report(Evaluation(failures=(Failure("case_00001", "unreadable"),)), tmp_path / "out")
    assert names(tmp_path) == set()


def test_the_command_refuses_in_one_line(scored, tmp_path, monkeypatch, capsys):
    """A refusal names the file, and nothing is written."""
    main = runpy.run_path(str(COMMAND))["main"]

    def refuse(*arguments):
        monkeypatch.setattr(sys, "argv", [str(COMMAND), *map(str, arguments)])
        assert run_command(main) == 2
        return capsys.readouterr().err

    output = tmp_path / "report"
    (tmp_path / "file").touch()
    taken = refuse("--scores", tmp_path / "no", "--output", tmp_path / "file")
    missing = refuse("--scores", tmp_path / "no", "--output", output)
    write_evaluation(tmp_path / "scores", scored)
    no_log = refuse("--scores", tmp_path / "scores", "--output", output, "--run", tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"kind": "epoch", "epoch": 1}\n[1, 2]\n')
    bad_log = refuse("--scores", tmp_path / "scores", "--output", output)
    for message, named in (
        (taken, f"{tmp_path / 'file'}: is a file"),
        (missing, tmp_path / "no"),
        (no_log, tmp_path / "metrics.jsonl"),
        (bad_log, f"{tmp_path / 'metrics.jsonl'}, line 2: "),
    ):
        assert message.count("\n") == 1
        assert str(named) in message
    assert not output.exists()


def test_a_closed_pipe_leaves_the_report(scored, tmp_path):
    """Nobody reads what the command prints, and nothing is said about it."""
    write_evaluation(tmp_path / "scores", replace(scored, dataset="/nowhere"))
    arguments = ["--scores", tmp_path / "scores", "--output", tmp_path / "report"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, COMMAND, *map(str, arguments)], **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
    assert (tmp_path / "report" / "report.html").is_file()


def test_the_command_starts_with_few_imports():
    """Help and usage errors do not wait for NumPy, SciPy and the report."""
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]);"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'scipy', 'kitsjax.report.report')))"
    )
    subprocess.run([sys.executable, "-c", code, COMMAND], check=True)
