"""The order of the training loop's work: the devices always have a step to take.

The steps are fakes, which note when they are given to the devices and when their results are read.
"""

import os
import signal
from dataclasses import replace
from functools import partial
from itertools import chain, islice, repeat
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from kitsjax.settings import NetworkSettings, SamplingSettings, Settings, TrainSettings
from kitsjax.signals import Stopped
from kitsjax.train import loop as loop_module
from kitsjax.train import streams as streams_module
from kitsjax.train.loop import TrainingLoop
from kitsjax.train.time_account import PARTS, TimeAccount
from kitsjax.training_log import read_rows

SETTINGS = Settings(
    sampling=SamplingSettings(patch_shape=(8, 8, 8), batch_size=8),
    network=NetworkSettings(features=2, deep_supervision=1, convolution="direct"),
    train=TrainSettings(epochs=2, batches=3, validation_batches=3),
)


class Result:
    """A result on the devices: only this host's first may be read, and that is noted."""

    def __init__(self, events, name, number, value):
        self.events, self.name, self.number = events, name, number
        self.value = np.float32(value)[None]
        self.shape = self.value.shape

    def addressable_data(self, index):
        assert index == 0
        return self

    def is_ready(self):
        return True

    def __array__(self, dtype=None, copy=None):
        self.events.append((f"{self.name} result", self.number))
        return self.value


@pytest.fixture
def make_loop(tmp_path, monkeypatch):
    def make(events, settings=SETTINGS):
        loop = TrainingLoop(settings, tmp_path, [], [])

        def fake(name, values):
            def step(state, arrays):
                events.append((f"{name} step", arrays))
                results = {k: Result(events, name, arrays, v) for k, v in values.items()}
                return (state, results) if name == "train" else results

            return step

        loop.program = replace(
            loop.program,
            train_step=fake("train", {"loss": 0.5, "grad_norm": 1.0}),
            eval_step=fake("validation", {"loss": 0.5, "counts": np.ones((4, 3))}),
        )
        return loop

    def send(arrays):
        (number,) = {int(n) for n in np.ravel(arrays["image"])}
        return number

    monkeypatch.setattr(streams_module, "send", send)
    return make


def open_streams(events):
    def read(name, count):
        for number in range(1, count + 1):
            events.append((f"{name} batch", number))
            yield {name: np.full(8, number) for name in ("image", "label", "index", "case")}

    train = SETTINGS.train
    counts = train.epochs * train.batches, train.epochs * train.validation_batches
    return lambda *_: (read("train", counts[0]), read("validation", counts[1]))


@pytest.mark.parametrize(("name", "per_epoch"), [("train", 3), ("validation", 3)])
def test_results_are_read_behind_the_next_step(make_loop, name, per_epoch):
    """As a result is read, the next step is with the devices, and so is the batch after it."""
    events = []
    make_loop(events).fit(open_streams(events))
    for number in range(1, 2 * per_epoch + 1):
        read = events.index((f"{name} result", number))
        last = number % per_epoch == 0
        # Between epochs there is something else to do.
        assert last or events.index((f"{name} step", number + 1)) < read
        ahead = min(number + (1 if last else 2), 2 * per_epoch)
        assert events.index((f"{name} batch", ahead)) < read


def test_every_batch_is_read_once_and_in_order(make_loop):
    events = []
    make_loop(events).fit(open_streams(events))
    for name in ("train", "validation"):
        for kind in ("batch", "step"):
            assert [n for what, n in events if what == f"{name} {kind}"] == list(range(1, 7))


def test_the_log_says_where_the_time_went(make_loop, tmp_path, capsys):
    make_loop([]).fit(open_streams([]), began=None)
    epochs = [row for row in read_rows(tmp_path / "metrics.jsonl") if row["kind"] == "epoch"]
    for row in epochs:
        assert sum(row[f"share_{part}"] for part in PARTS) == pytest.approx(1)
        assert 0 < row["goodput"] <= 1
    (line, _) = [text for text in capsys.readouterr().out.splitlines() if "time:" in text]
    for word in (*PARTS, "goodput"):
        assert word in line


def test_what_a_step_does_on_the_host_is_no_data(make_loop, tmp_path, monkeypatch):
    """Such as writing a trace: it would look as if the pipeline were too slow."""
    seconds = iter(range(10**6))
    monkeypatch.setattr(
        loop_module, "TimeAccount", partial(TimeAccount, clock=lambda: 1e-3 * next(seconds))
    )
    loop = make_loop([])
    step = loop.program.train_step

    def write_a_trace(*arguments):
        for _ in range(10**4):
            next(seconds)
        return step(*arguments)

    loop.program = replace(loop.program, train_step=write_a_trace)
    loop.fit(open_streams([]))
    for row in read_rows(tmp_path / "metrics.jsonl"):
        if row["kind"] == "epoch":
            assert row["share_host"] > 0.9


def test_compiling_is_not_productive(make_loop, tmp_path, monkeypatch):
    """A step compiles in its first call, which takes as long as a thousand others here."""
    seconds = [0.0]
    monkeypatch.setattr(loop_module, "TimeAccount", partial(TimeAccount, clock=lambda: seconds[0]))
    loop = make_loop([])

    def compile_first(step):
        waits = chain([1000.0], repeat(1.0))

        def call(*arguments):
            seconds[0] += next(waits)
            return step(*arguments)

        return call

    loop.program = replace(
        loop.program,
        train_step=compile_first(loop.program.train_step),
        eval_step=compile_first(loop.program.eval_step),
    )
    loop.fit(open_streams([]))
    first, second = (r for r in read_rows(tmp_path / "metrics.jsonl") if r["kind"] == "epoch")
    assert first["share_host"] > 0.99
    assert second["share_validating"] == 0.5, "three calls of either step"
    assert loop.progress.productive_seconds == 2 + 3


def test_the_first_state_leaves_the_devices(make_loop):
    """It lies there beside the one that is trained, in memory that `--plan` does not count."""
    loop, seen = make_loop([]), []

    def look():
        seen.extend(type(leaf) for leaf in jax.tree.leaves(loop.state))

    loop.fit(open_streams([]), stepped=look)
    assert set(seen) == {np.ndarray}


def test_an_epoch_without_steps_has_no_speed(make_loop, tmp_path, capsys):
    """Its run was stopped in the validation, which is made again as a whole."""
    events = []
    streams = open_streams(events)

    def stop(*_):
        training, validation = streams()

        def interrupted():
            yield next(validation)
            os.kill(os.getpid(), signal.SIGTERM)
            yield next(validation)

        return training, interrupted()

    with pytest.raises(Stopped):
        make_loop(events).fit(stop)
    resumed = make_loop(events)
    assert resumed.progress.step == 3
    later = open_streams([])()
    resumed.fit(lambda *_: (islice(later[0], 3, None), later[1]))
    first, second = (row for row in read_rows(tmp_path / "metrics.jsonl") if row["kind"] == "epoch")
    assert first["patches_per_second"] is None
    assert second["patches_per_second"] > 0
    assert "no step was left" in capsys.readouterr().out


def test_checkpoints_between_steps_by_the_clock(make_loop, tmp_path, monkeypatch):
    """The step before is logged, and the checkpoint holds the part of its epoch that is done."""
    events, saved = [], []
    train = SETTINGS.train.model_copy(update={"checkpoint_minutes": 5.0})
    loop = make_loop(events, SETTINGS.model_copy(update={"train": train}))
    save, due = loop._checkpoints.save, iter([False, True, False, False, True, False])

    def note(state, progress, *, scored):
        saved.append((progress.step, progress.epoch, len(progress.losses), scored))
        save(state, progress, scored=scored)

    monkeypatch.setattr(loop, "_checkpoints", SimpleNamespace(
        save=note, is_due=lambda minutes: next(due) and minutes == 5.0,
        **{name: getattr(loop._checkpoints, name) for name in ("wait", "close", "restore_best")},
    ))  # fmt: skip
    loop.fit(open_streams(events))
    assert saved == [(2, 0, 2, False), (3, 1, 0, True), (5, 1, 2, False), (6, 2, 0, True)]


def test_each_step_is_told_of(make_loop):
    """A long validation is not taken for a training that makes no progress."""
    events = []
    make_loop(events).fit(open_streams(events), stepped=lambda: events.append(("told", 0)))
    order = [name for name, _ in events if name == "told" or name.endswith(" step")]
    train, validation = ["train step", "told"], ["validation step", "told"]
    assert order == 2 * (3 * train + 3 * validation)


def test_no_host_ends_before_all_have_saved(make_loop, tmp_path, monkeypatch):
    """A signal's checkpoint is written when the hosts meet, and they meet before they end."""
    events, checkpoint = [], tmp_path / "checkpoints" / "1"
    loop = make_loop(events)

    def meet(name):
        events.append((name, checkpoint.is_dir()))

    monkeypatch.setattr(loop_module, "barrier", meet)
    with pytest.raises(Stopped, match="saved at step 1"):
        loop.fit(open_streams(events), stepped=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert events[-1] == ("saving before the end", True)
