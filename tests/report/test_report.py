import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from kitsjax.errors import InputError
from kitsjax.evaluate.results import Evaluation, Failure, Lesion, Score
from kitsjax.evaluate.write_results import write_evaluation
from kitsjax.labels import EVALUATION_CLASSES
from kitsjax.report.report import draw_figures, find_files, write_report

ROOT = Path(__file__).parents[2]
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
    """Two small cases: an evaluation, and the folders of data set and predictions it is of."""
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
        for name in EVALUATION_CLASSES
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
    """A report with every figure that two cases allow, and the paths that were returned."""
    folder = tmp_path_factory.mktemp("report")
    return folder, write_report(scored, folder, EPOCHS, "paper")


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_the_folder_holds_what_was_promised_and_returned(report):
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


def test_the_same_evaluation_gives_the_same_bytes(report, scored, tmp_path):
    folder, _ = report
    write_report(scored, tmp_path, EPOCHS, "paper")
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_figures_of_an_earlier_report_do_not_stay(scored, tmp_path):
    for name in ("figure_2_training.png", "figure_3_best.pdf", "report.html"):
        (tmp_path / name).write_text("stale")
    (tmp_path / "mine.png").write_text("kept")
    written = write_report(replace(scored, dataset="/nowhere/kits21"), tmp_path)
    assert {path.name for path in written} == TABLES | CHARTS | {"report.html"}
    assert names(tmp_path) == TABLES | CHARTS | {"report.html", "mine.png"}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "stale" not in page
    assert "Not drawn: no training log, or no epoch in it; give the run" in page
    assert page.count("Not drawn: /nowhere/kits21: no such data folder") == 2
    assert page.count("Say with --predictions and --dataset where these folders are now.") == 2


def test_a_folder_in_the_place_of_a_figure_is_one_line(scored, tmp_path):
    (tmp_path / "figure_2_training.png").mkdir()
    for epochs in ((), EPOCHS):
        with pytest.raises(InputError, match=r"figure_2_training\.png: cannot "):
            write_report(scored, tmp_path, epochs)


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


def test_files_are_those_of_cases_predicted_with_their_label(scored, tmp_path):
    save(tmp_path / "case_00002" / "segmentation.nii.gz", np.zeros((2, 2, 2), np.uint8))
    save(tmp_path / "case_00005" / "segmentation.nii.gz", np.zeros((2, 2, 2), np.uint8))
    found = find_files(scored.predictions, tmp_path)
    assert list(found) == ["case_00002"]
    assert found["case_00002"].image is None
    assert found["case_00002"].truth == tmp_path / "case_00002" / "segmentation.nii.gz"


def command(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "bin" / "report.py", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_prints_table_1_and_where_the_page_is(scored, tmp_path):
    write_evaluation(tmp_path / "run" / "scores", replace(scored, dataset="/nowhere"))
    rows = "".join(str(row).replace("'", '"') + "\n" for row in EPOCHS)
    (tmp_path / "run" / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n' + rows)
    output = tmp_path / "report"
    done = command(
        "--scores", tmp_path / "run" / "scores", "--output", output, "--compare", "paper"
    )
    assert done.returncode == 0, done.stderr
    assert "Surface Dice" in done.stdout
    assert "0.850" in done.stdout
    assert done.stdout.splitlines()[-1] == f"report: {output / 'report.html'}"
    # The run's own log was found beside the scores.
    assert names(output) >= CURVES | CHARTS


def test_the_command_refuses_in_one_line_and_writes_nothing(scored, tmp_path):
    output = tmp_path / "report"
    (tmp_path / "file").touch()
    taken = command("--scores", tmp_path / "no", "--output", tmp_path / "file")
    missing = command("--scores", tmp_path / "no", "--output", output)
    write_evaluation(tmp_path / "scores", scored)
    no_log = command("--scores", tmp_path / "scores", "--output", output, "--run", tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"kind": "epoch", "epoch": 1}\n[1, 2]\n')
    bad_log = command("--scores", tmp_path / "scores", "--output", output)
    for done, named in (
        (taken, f"{tmp_path / 'file'}: is a file"),
        (missing, tmp_path / "no"),
        (no_log, tmp_path / "metrics.jsonl"),
        (bad_log, f"{tmp_path / 'metrics.jsonl'}, line 2: "),
    ):
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert str(named) in done.stderr
    assert not output.exists()


def test_the_report_is_there_even_if_nobody_reads_what_is_printed(scored, tmp_path):
    write_evaluation(tmp_path / "scores", scored)
    arguments = ["--scores", tmp_path / "scores", "--output", tmp_path / "report"]
    command_line = [sys.executable, ROOT / "bin" / "report.py", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command_line, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
    assert (tmp_path / "report" / "report.html").is_file()


def test_the_command_starts_before_it_loads_what_it_needs():
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]);"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'scipy', 'kitsjax.report.report')))"
    )
    subprocess.run([sys.executable, "-c", code, ROOT / "bin" / "report.py"], check=True)
