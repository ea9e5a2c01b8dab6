import json

from kitsjax.train.time_account import PARTS
from kitsjax.train.tracking import Tracker
from kitsjax.training_log import read_rows


def step_row(step):
    return {"step": step, "loss": 0.5, "grad_norm": 1.0, "learning_rate": 0.01}


def epoch_row(epoch):
    return {
        "epoch": epoch, "step": 2 * epoch, "train_loss": 1 / epoch, "validation_loss": 2 / epoch,
        "pseudo_dice": 0.5, "pseudo_dice_average": 0.4, "patches_per_second": 3.0,
        **{f"share_{part}": 0.2 for part in PARTS}, "goodput": 0.5,
    }  # fmt: skip


def write(folder, epochs):
    with Tracker(folder, 0, 0, 10) as tracker:
        for epoch in epochs:
            tracker.step(step_row(2 * epoch - 1))
            tracker.step(step_row(2 * epoch))
            tracker.epoch(epoch_row(epoch))


def test_rows_tensorboard_and_figure_are_written(tmp_path):
    write(tmp_path, [1, 2])
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["kind"] for row in rows] == ["step", "step", "epoch"] * 2
    assert rows[0] == {"kind": "step", **step_row(1)}
    assert (tmp_path / "progress.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_resume_drops_later_and_broken_rows(tmp_path):
    write(tmp_path, [1, 2, 3])
    with (tmp_path / "metrics.jsonl").open("a") as lines:
        lines.write(json.dumps(step_row(7))[:20])
    with Tracker(tmp_path, 4, 2, 10) as tracker:
        assert [row["epoch"] for row in tracker._log.epochs] == [1, 2]
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 2, 3, 4, 4]


def test_resume_within_validation_keeps_the_steps(tmp_path):
    write(tmp_path, [1, 2])
    with Tracker(tmp_path, 4, 1, 10):
        pass
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["kind"] for row in rows] == ["step", "step", "epoch", "step", "step"]
