import io
import json
import threading
from contextlib import nullcontext

import pytest

from kitsjax.errors import InputError
from kitsjax.report.drawing import save_figure
from kitsjax.train import tracking
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


def test_training_goes_on_while_curves_are_drawn(tmp_path, monkeypatch):
    """The devices would wait for a figure; only the end does, so that it shows every epoch."""
    wanted = threading.Event()

    def save_when_wanted(figure, path):
        if wanted.wait(60):
            save_figure(figure, path)

    monkeypatch.setattr(tracking, "save_figure", save_when_wanted)
    with Tracker(tmp_path, 0, 0, 10) as tracker:
        tracker.epoch(epoch_row(1))
        assert not (tmp_path / "progress.png").exists()
        wanted.set()
    assert (tmp_path / "progress.png").exists()


@pytest.mark.parametrize(
    ("seconds", "figures"),
    [
        pytest.param(1, [[1], [1, 2, 3]], id="short"),
        pytest.param(tracking.DRAWING_SECONDS, [[1], [1, 2], [1, 2, 3]], id="long"),
    ],
)
@pytest.mark.parametrize("interrupted", [False, True])
def test_curves_are_drawn_seldom_and_last(tmp_path, monkeypatch, seconds, figures, interrupted):
    """Not after every epoch of a second, but the last figure shows every epoch, and only once."""
    drawn = []
    plot = tracking.plot_training
    monkeypatch.setattr(tracking, "plot_training", lambda rows: (drawn.append(rows), plot(rows))[1])
    now = 0.0

    def train():
        nonlocal now
        with Tracker(tmp_path, 0, 0, 10, clock=lambda: now) as tracker:
            for epoch in (1, 2, 3):
                tracker.epoch(epoch_row(epoch))
                now += seconds
            if interrupted:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) if interrupted else nullcontext():
        train()
    assert [[row["epoch"] for row in rows] for rows in drawn] == figures


@pytest.mark.parametrize("error", [InputError, RuntimeError])
def test_a_figure_that_fails_ends_no_training(tmp_path, monkeypatch, caplog, error):
    """Each that fails is told, and the next one is drawn all the same."""

    def fail(figure, path):
        raise error("no room")

    now = 0.0
    with Tracker(tmp_path, 0, 0, 10, clock=lambda: now) as tracker:
        for epoch, save in ((1, fail), (2, fail), (3, save_figure)):
            tracker._drawer.submit(monkeypatch.setattr, tracking, "save_figure", save).result()
            tracker.epoch(epoch_row(epoch))
            now += tracking.DRAWING_SECONDS
    assert (tmp_path / "progress.png").exists()
    assert [record.getMessage().count("no room") for record in caplog.records] == [1, 1]


class FullDisk(io.StringIO):
    """A file that takes rows, and fails when they are to reach the disk."""

    def flush(self):
        raise OSError(28, "No space left on device")

    def close(self):
        super().close()
        self.flush()


def fill_disk(tracker):
    tracker._log._file.close()
    tracker._log._file = FullDisk()


@pytest.mark.parametrize("moment", ["epoch", "end"])
def test_a_log_that_cannot_be_written_is_told(tmp_path, moment):
    def train():
        with Tracker(tmp_path, 0, 0, 10) as tracker:
            fill_disk(tracker)
            tracker.step(step_row(1))
            if moment == "epoch":
                tracker.epoch(epoch_row(1))

    with pytest.raises(InputError) as refused:
        train()
    text = f"{tmp_path}/metrics.jsonl: cannot write the training log (No space left on device)"
    assert str(refused.value).startswith(text)
    assert "--resume" in str(refused.value)


def test_the_first_error_of_a_full_disk_stays(tmp_path):
    """The log fails as it is closed, too, but that says less."""

    def train():
        with Tracker(tmp_path, 0, 0, 10) as tracker:
            fill_disk(tracker)
            raise InputError("cannot save a checkpoint")

    with pytest.raises(InputError, match="cannot save a checkpoint"):
        train()
