"""The numbers of a validation: known answers, and who reads that a class is absent."""

import numpy as np
import pytest
from test_event_file import read_events

from kitsjax.labels import KITS
from kitsjax.train.time_account import PARTS
from kitsjax.train.tracking import FIGURE, Tracker
from kitsjax.train.validation import score_validation
from kitsjax.training_log import read_epochs


@pytest.fixture
def row():
    """The row of two batches, in which a tumor is predicted in vain and no cyst is anywhere."""
    # True positives, false positives and false negatives of background, kidney, tumor and cyst.
    counts = np.array([[90, 1, 1], [3, 1, 1], [0, 2, 0], [0, 0, 0]], np.float32)
    batches = [{"loss": np.float32(loss), "counts": counts} for loss in (0.5, 0.25)]
    return score_validation(batches, KITS)


def test_an_absent_class_has_no_score(row):
    assert row == {
        "validation_loss": 0.375, "pseudo_dice": 0.375, "pseudo_dice_kidney": 0.75,
        "pseudo_dice_tumor": 0.0, "pseudo_dice_cyst": None,
    }  # fmt: skip


def test_an_absent_class_is_no_point_of_a_curve(row, tmp_path):
    """The log has it as unknown, also for a start that resumes, and TensorBoard not at all."""
    others = dict.fromkeys(("train_loss", "pseudo_dice_average", "patches_per_second"), 0.5)
    shares = {f"share_{part}": 0.2 for part in PARTS}
    epoch = {"epoch": 1, "step": 2, **row, **others, **shares, "goodput": 1.0}
    for start in (0, 1):
        with Tracker(tmp_path, 2 * start, start, 4) as tracker:
            tracker.epoch(epoch | {"epoch": start + 1, "step": 2 * start + 2})
    found = read_epochs(tmp_path / "metrics.jsonl")
    assert [each["pseudo_dice_cyst"] for each in found] == [None, None]
    assert (tmp_path / FIGURE).is_file()
    events = read_events(tmp_path / "tensorboard")
    tags = {value.tag for event in events for value in event.summary.value}
    assert "epoch/pseudo_dice_tumor" in tags
    assert "epoch/pseudo_dice_cyst" not in tags
