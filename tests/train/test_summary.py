"""The end of a run: its summary, and what is not scored twice."""

import json
import math
import os

import numpy as np
import pytest

from kitsjax.config import load_settings
from kitsjax.data.case import Case
from kitsjax.evaluate.absent_classes import AbsentClass
from kitsjax.evaluate.read_results import read_evaluation
from kitsjax.evaluate.results import Failure
from kitsjax.image.header import kits_header
from kitsjax.image.write_nifti import write_label, write_volume
from kitsjax.labels import KITS
from kitsjax.run_record import KeptEpoch, RunRecord, read_record, write_record
from kitsjax.settings import TrainSettings
from kitsjax.train import summary as summary_module
from kitsjax.train.run import _describe_outputs
from kitsjax.train.summary import _summarize_epochs, report_scores

TRAIN = TrainSettings(epochs=4, batches=10)
KEPT = KeptEpoch(epoch=2, pseudo_dice_average=0.5)


def row(epoch, **changed):
    return {
        "kind": "epoch", "epoch": epoch, "step": 10 * epoch, "validation_loss": 1 / epoch,
        "pseudo_dice_average": 0.2 * epoch,
    } | changed  # fmt: skip


def test_best_epoch_is_that_of_kept_parameters():
    summary = _summarize_epochs(TRAIN, [row(n) for n in range(1, 5)], KEPT)
    assert (summary["best_epoch"], summary["pseudo_dice_average"]) == (2, 0.5)
    assert (summary["least_validation_loss_epoch"], summary["least_validation_loss"]) == (4, 0.25)
    assert (summary["epochs"], summary["steps"]) == (4, 40)
    assert "epochs_missing_in_log" not in summary


@pytest.mark.parametrize(
    ("rows", "missing", "least"),
    [([], 4, None), ([row(3)], 3, 3), ([row(3), row(4, validation_loss=None)], 2, 3)],
)
def test_missing_rows_are_counted(rows, missing, least):
    """The log may have been moved away: the rest of the summary does not hang on it."""
    summary = _summarize_epochs(TRAIN, rows, KEPT)
    assert summary["epochs_missing_in_log"] == missing
    assert summary["least_validation_loss_epoch"] == least
    assert (summary["best_epoch"], summary["steps"]) == (2, 40)


@pytest.mark.parametrize("loss", [math.nan, math.inf, None])
def test_the_least_loss_is_a_number(loss):
    """The first epoch's may have diverged; a loss of 0 is one, too."""
    rows = [row(1, validation_loss=loss), row(2), row(3, validation_loss=0.0)]
    summary = _summarize_epochs(TRAIN, rows, KEPT)
    assert (summary["least_validation_loss"], summary["least_validation_loss_epoch"]) == (0.0, 3)


class Scoring:
    """Counts scorings, and writes a file of scores as a scoring does."""

    def __init__(self, folder, monkeypatch):
        self.count, self.folder, self.failures = 0, folder, ()
        monkeypatch.setattr(summary_module, "evaluate_together", self.evaluate)
        replaced = "score_table", "means_table", "to_text", "_network_means", "find_absent_classes"
        for name in ("write_report", *replaced):
            monkeypatch.setattr(summary_module, name, lambda *_, **__: {})
        monkeypatch.setattr(summary_module, "write_evaluation", self.write)
        # What the run's record compares with: a time of each file, which a test may not wait for.
        self.scores, self.samples, self.case_ids, self.missing = [1], (), ["case_00001"], ()
        self.scheme = KITS

    def evaluate(self, *_, **__):
        self.count += 1
        return self

    def write(self, folder, found):
        for path in (folder / "scores.csv", self.folder / "report" / "report.html"):
            path.parent.mkdir(exist_ok=True)
            path.write_text("made")


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """A run folder whose one held-out case is scored: settings, folder, case, scoring."""
    folder = tmp_path / "run"
    case = Case("case_00001", tmp_path / "imaging.nii.gz", tmp_path / "segmentation.nii.gz")
    case.label.write_text("label")
    (folder / "predictions").mkdir(parents=True)
    (folder / "predictions" / "case_00001.nii.gz").write_text("mask")
    record = RunRecord(
        settings="", versions={}, train=["case_00000"], held_out=["case_00001"], kept=KEPT
    )
    write_record(folder, record)
    settings = load_settings(overrides=["train.epochs=4"])
    scoring = Scoring(folder, monkeypatch)
    assert report_scores(settings, folder, [], [case]) == []
    assert scoring.count == 1
    return settings, folder, case, scoring


def test_what_is_current_is_not_scored_again(scored, capsys):
    settings, folder, case, scoring = scored
    assert read_record(folder).stage == "finished"
    assert report_scores(settings, folder, [], [case]) == []
    assert scoring.count == 1
    assert "scores are up to date" in capsys.readouterr().out


def test_the_summary_tells_of_absent_classes(scored, monkeypatch):
    """JSON has no nan: a class that no case shows has no Dice."""
    settings, folder, case, _ = scored
    assert "absent_classes" not in json.loads((folder / "summary.json").read_text())
    chest = AbsentClass("tumor", 1, 1, 2.5, 2.5, 0, math.nan, math.nan)
    monkeypatch.setattr(summary_module, "find_absent_classes", lambda *_: [chest])
    case.label.write_text("another label")
    report_scores(settings, folder, [], [case])
    assert json.loads((folder / "summary.json").read_text())["absent_classes"] == [
        {"evaluation_class": "tumor", "cases": 1, "found_in": 1, "mean_cm3": 2.5,
         "largest_cm3": 2.5, "present": 0, "dice": None, "surface_dice": None}
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        "run/predictions/case_00001.nii.gz",
        "segmentation.nii.gz",
        "run/scores/scores.csv",
        "run/summary.json",
        "run/report/report.html",
    ],
)
@pytest.mark.parametrize("how", ["removed", "later"])
def test_changed_files_are_scored_again(scored, tmp_path, changed, how):
    settings, folder, case, scoring = scored
    path = tmp_path / changed
    if how == "removed":
        path.unlink()
    else:
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    report_scores(settings, folder, [], [case])
    # A report that was written anew is as good.
    assert scoring.count == (1 if (how, path.name) == ("later", "report.html") else 2)


def test_failures_are_told_again(scored):
    settings, folder, case, scoring = scored
    (folder / "predictions" / "case_00001.nii.gz").write_text("another")
    scoring.failures = (Failure("case_00001", "case_00001: bad"),)
    for _ in range(2):
        assert report_scores(settings, folder, [], [case]) == ["case_00001: bad"]


@pytest.fixture
def predicted(scored, monkeypatch):
    """The run of `scored` with real scoring: settings, folder, case."""
    settings, folder, case, _ = scored
    monkeypatch.undo()
    header = kits_header((4, 8, 8), (4.0, 2.0, 2.0))
    label = np.zeros((4, 8, 8), np.uint8)
    label[1:3, 2:6, 2:6] = 1
    write_volume(case.image, 100.0 * label.astype(np.float32), header)
    for path in (case.label, folder / "predictions" / "case_00001.nii.gz"):
        path.unlink()
        write_label(path, label, header)
    settings = settings.model_copy(
        update={"train": settings.train.model_copy(update={"threshold_baseline": False})}
    )
    return settings, folder, case


def test_an_older_mask_is_not_scored(predicted):
    """A case whose new prediction failed has no score, and the run is not up to date."""
    settings, folder, case = predicted
    assert report_scores(settings, folder, [], [case]) == []
    assert read_record(folder).scored
    assert (folder / "report" / "report.html").exists()
    lost = [Failure("case_00001", "imaging.nii.gz: the device is out of memory")]
    for _ in range(2):
        assert report_scores(settings, folder, [], [case], lost) == []
        assert read_record(folder).scored == ""
        found = read_evaluation(folder / "scores")
        assert (found.scores, found.failures, found.missing) == ((), tuple(lost), ())
        assert list((folder / "report").iterdir()) == []
        assert "classes" not in json.loads((folder / "summary.json").read_text())
    assert report_scores(settings, folder, [], [case]) == []
    assert len(read_evaluation(folder / "scores").scores) == 3


def test_scores_of_before_do_not_stay(predicted):
    """The label cannot be read any more: what was scored with it is gone."""
    settings, folder, case = predicted
    report_scores(settings, folder, [], [case])
    case.label.write_bytes(b"no NIfTI")
    (line,) = report_scores(settings, folder, [], [case])
    assert str(case.label) in line
    assert read_evaluation(folder / "scores").scores == ()
    assert list((folder / "report").iterdir()) == []


def test_the_end_names_only_what_exists(scored, tmp_path):
    _, folder, _, _ = scored
    (folder / "model.safetensors").touch()
    names = "model.safetensors, predictions, scores/scores.csv, report/report.html, summary.json"
    assert _describe_outputs(folder, 1) == f"{names}: {folder}"
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "model.safetensors").touch()
    text = _describe_outputs(bare, 0)
    assert text.startswith(f"model.safetensors: {bare} (no case is held out")
