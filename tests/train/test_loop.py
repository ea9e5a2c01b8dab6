"""The training loop on made-up batches: stopping at any moment, and what it compiles."""

import os
import signal
from dataclasses import replace
from itertools import count

import jax
import jax.monitoring
import numpy as np
import pytest

from kitsjax.settings import (
    AugmentSettings,
    NetworkSettings,
    SamplingSettings,
    Settings,
    TrainSettings,
)
from kitsjax.signals import Stopped
from kitsjax.train import loop as loop_module
from kitsjax.train.augment import oversized_shape
from kitsjax.train.loop import TrainingLoop
from kitsjax.train.program import build_program
from kitsjax.train.replication import first_replica, replicate, send
from kitsjax.train.time_account import PARTS
from kitsjax.train.tracking import Tracker
from kitsjax.training_log import read_epochs, read_rows

EPOCHS, BATCHES, VALIDATIONS = 2, 2, 2

SETTINGS = Settings(
    # A patch for each of the tests' eight devices.
    sampling=SamplingSettings(patch_shape=(8, 8, 8), batch_size=8),
    network=NetworkSettings(features=2, deep_supervision=1, convolution="direct"),
    augment=AugmentSettings(rotate=0.0, scale=0.0),
    train=TrainSettings(epochs=EPOCHS, batches=BATCHES, validation_batches=VALIDATIONS),
)


@pytest.fixture(scope="module")
def program():
    """The compiled steps, which all tests of this file share."""
    return build_program(SETTINGS)


@pytest.fixture(autouse=True)
def shared_program(program, monkeypatch):
    monkeypatch.setattr(loop_module, "build_program", lambda _: program)


def batch(number, shape):
    """Random patches that depend on the number of the batch alone, as the pipeline's do."""
    rng = np.random.default_rng(number)
    return {
        "image": rng.normal(size=(8, *shape)).astype(np.float16),
        "label": rng.integers(0, 4, (8, *shape)).astype(np.uint8),
        "index": np.arange(8, dtype=np.int32) + 8 * number,
        "case": np.zeros(8, np.int32),
    }


class Streams:
    """Opens both streams at a run's progress; as a batch is read, it may get a signal."""

    def __init__(self, moment=None):
        self.moment = moment

    def __call__(self, settings, train_cases, validation_cases, progress):
        shape = settings.sampling.patch_shape
        return (
            self.read("train", progress.step, oversized_shape(shape, settings.augment)),
            self.read("validation", progress.epoch * VALIDATIONS, shape),
        )

    def read(self, name, start, shape):
        for number in count(start):
            if self.moment == (name, number):
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch(number, shape)


def numbers(folder):
    """The log's rows without its times."""
    timed = {"seconds", "patches_per_second", "goodput", *(f"share_{part}" for part in PARTS)}
    rows = read_rows(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in timed} for row in rows]


def train(folder, moment=None):
    return TrainingLoop(SETTINGS, folder, [], []).fit(Streams(moment))


def equal(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, TrainingLoop(SETTINGS, folder, [], []).fit(Streams())


MOMENTS = [
    *[("train", number) for number in range(EPOCHS * BATCHES)],
    *[("validation", number) for number in range(EPOCHS * VALIDATIONS)],
    ("log", 1),
    ("log", EPOCHS),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_a_stop_at_any_moment_loses_nothing(unbroken, tmp_path, monkeypatch, moment):
    """SIGTERM leaves a checkpoint, and what is resumed from it ends as an unbroken run."""
    log_epoch = Tracker.epoch

    def epoch(self, row):
        log_epoch(self, row)
        if moment == ("log", row["epoch"]):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "epoch", epoch)
        with pytest.raises(Stopped) as stopped:
            train(tmp_path, moment)
    assert stopped.value.status == 143
    assert "--resume" in str(stopped.value)
    loop = TrainingLoop(SETTINGS, tmp_path, [], [])
    assert loop.progress.step == max(row["step"] for row in numbers(tmp_path))
    assert loop.finished == (moment == ("log", EPOCHS))
    params, progress = loop.fit(Streams())
    folder, (best, best_progress) = unbroken
    assert numbers(tmp_path) == numbers(folder)
    assert equal(params, best)
    assert progress == best_progress
    assert TrainingLoop(SETTINGS, tmp_path, [], []).finished, "no epoch is validated again"


def test_a_signal_after_the_last_vote_is_heeded(tmp_path, monkeypatch):
    def close(_):
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    monkeypatch.setattr(loop_module.StopVote, "close", close)
    with pytest.raises(Stopped, match="all epochs are done; --resume predicts and scores"):
        train(tmp_path)


def test_other_hosts_read_no_best(tmp_path, monkeypatch):
    """Their disks may not show the last checkpoint yet, and only the main process needs it."""
    monkeypatch.setattr(loop_module, "is_main", lambda: False)
    monkeypatch.setattr(loop_module.Checkpoints, "restore_best", lambda *_: 1 / 0)
    assert train(tmp_path) is None


@pytest.mark.parametrize("moment", [("train", 1), ("validation", 1)], ids=str)
def test_average_is_validated_kept_and_resumed(tmp_path, monkeypatch, moment):
    monkeypatch.setattr(loop_module, "build_program", build_program)
    train = SETTINGS.train.model_copy(update={"ema_decay": 0.8, "epochs": 1})
    settings = SETTINGS.model_copy(update={"train": train})

    def make_loop(folder):
        return TrainingLoop(settings, folder, [], [])

    states = []
    whole = make_loop(tmp_path / "whole")
    save = whole._checkpoints.save
    validated, evaluate = [], whole.program.eval_step
    whole.program = replace(
        whole.program,
        eval_step=lambda params, batch: (validated.append(params), evaluate(params, batch))[1],
    )
    whole._checkpoints.save = lambda state, *a, **k: (states.append(state), save(state, *a, **k))
    best, _ = whole.fit(Streams())
    last = states[-1]
    assert equal(best, last.average)
    assert not equal(best, last.params)
    assert all(equal(first_replica(params), best) for params in validated)

    with pytest.raises(Stopped):
        make_loop(tmp_path / "resumed").fit(Streams(moment))
    resumed = make_loop(tmp_path / "resumed")
    assert 0 < resumed.progress.number < BATCHES + 1
    assert equal(resumed.fit(Streams())[0], best)
    assert numbers(tmp_path / "resumed") == numbers(tmp_path / "whole")
    assert equal(make_loop(tmp_path / "resumed").state, last)


def test_a_second_signal_does_not_wait(tmp_path):
    before = signal.getsignal(signal.SIGTERM)

    class Impatient(KeyboardInterrupt):
        pass

    def second(number, frame):
        raise Impatient

    def streams(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        yield

    signal.signal(signal.SIGTERM, second)
    try:
        with pytest.raises(Impatient):
            TrainingLoop(SETTINGS, tmp_path, [], []).fit(lambda *_: (streams(), streams()))
    finally:
        signal.signal(signal.SIGTERM, before)


def test_kept_epoch_is_one_with_a_checkpoint(tmp_path):
    """With a checkpoint every second epoch, another epoch may have been better."""
    sparse = SETTINGS.train.model_copy(
        update={"epochs": 4, "checkpoint_epochs": 2, "dice_decay": 0.0}
    )
    settings = SETTINGS.model_copy(update={"train": sparse})
    loop = TrainingLoop(settings, tmp_path, [], [])
    scores = iter([0.1, 0.3, 0.9, 0.2])

    def validate(*_):
        return {"pseudo_dice": next(scores), "validation_loss": 1.0}

    loop._validate = validate
    _, progress = loop.fit(Streams())
    best = max(read_epochs(tmp_path / "metrics.jsonl"), key=lambda row: row["pseudo_dice"])
    assert best["epoch"] == 3
    assert (progress.epoch, progress.pseudo_dice_average) == (2, 0.3)


def test_the_train_step_compiles_once(tmp_path, monkeypatch):
    """What is compiled for the plan is what trains, also without a cache on the disk."""
    # The shared program has compiled its steps already.
    monkeypatch.setattr(loop_module, "build_program", build_program)
    loop = TrainingLoop(SETTINGS, tmp_path, [], [])
    compiled = []

    def note(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    shape = oversized_shape(SETTINGS.sampling.patch_shape, SETTINGS.augment)
    arrays = {name: array for name, array in batch(0, shape).items() if name != "case"}
    state = replicate(loop.state)
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        loop.compile()
        assert len(compiled) == 1
        state, _ = loop.program.train_step(state, send(arrays))
        state, metrics = loop.program.train_step(state, send(arrays))
        assert len(compiled) == 1
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert np.isfinite(np.asarray(metrics["loss"])).all()
