from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import epoch
from benchmarks.definition import Job
from kitsjax.config import load_settings
from kitsjax.settings import (
    NetworkSettings,
    PreprocessSettings,
    SamplingSettings,
    Settings,
    TrainSettings,
)
from kitsjax.train.augment import oversized_shape
from kitsjax.train.program import build_program
from kitsjax.training_log import LOG_NAME, read_rows

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(("size", "config"), [("small", "phantom"), ("full", "kits21")])
def test_settings_are_those_of_the_configurations(tmp_path, size, config):
    settings = epoch.epoch_settings(Job(tmp_path, size, "", 8))
    shipped = load_settings(CONFIGS / f"{config}.toml", ["preprocess.normalize=case"])
    for section in ("preprocess", "sampling", "augment", "network", "loss", "optimizer"):
        assert getattr(settings, section) == getattr(shipped, section), section


def test_dummy_batch_is_as_the_loop_sends_it():
    batch = epoch.make_device_batch(Settings(sampling=SamplingSettings(batch_size=16)), (8, 16, 8))
    assert set(batch) == {"image", "label", "index"}
    # Two patches for each of the tests' eight devices.
    assert batch["image"].shape == batch["label"].shape == (8, 2, 8, 16, 8)
    assert (batch["image"].dtype, batch["label"].dtype) == (np.float16, np.uint8)
    assert set(np.unique(batch["label"])) == {0, 1, 2, 3}


@pytest.mark.slow
def test_all_contenders_take_the_same_steps(tmp_path, monkeypatch):
    """The loop reads real cases and writes its log; the others only take the steps."""
    tiny = Settings(
        # A patch for each of the tests' eight devices.
        sampling=SamplingSettings(patch_shape=(8, 8, 8), batch_size=8),
        preprocess=PreprocessSettings(spacing_mm=16.0),
        network=NetworkSettings(features=2, deep_supervision=1, convolution="direct"),
        train=TrainSettings(epochs=2, batches=3, validation_batches=2),
    )
    monkeypatch.setattr(epoch, "epoch_settings", lambda _: tiny)
    monkeypatch.setattr(epoch, "_CASES", {"small": epoch._Cases(2, 32)})
    # It would move the tests' own cache of compiled programs.
    monkeypatch.setattr("kitsjax.devices.start_devices", lambda *_, **__: None)
    taken, sizes, numbers = [], [], []

    def count_steps(settings):
        program = build_program(settings)

        def noted(name):
            step = getattr(program, name)

            def take(state, batch):
                taken.append(name)
                if name == "train_step":
                    sizes.append(batch["image"].shape[2:])
                    numbers.append(np.asarray(batch["index"]).ravel())
                return step(state, batch)

            return take

        return replace(program, **{name: noted(name) for name in ("train_step", "eval_step")})

    for module in ("loop", "program"):
        monkeypatch.setattr(f"kitsjax.train.{module}.build_program", count_steps)
    job = Job(tmp_path, "small", "", 1)
    epoch.BENCHMARK.prepare(job)
    steps = []
    for contender in epoch.BENCHMARK.contenders:
        found = contender.run(job)
        # The first of two epochs warms up.
        assert len(found.seconds) == 1
        assert found.units == 5
        steps.append(taken.copy())
        taken.clear()
    assert steps == [(["train_step"] * 3 + ["eval_step"] * 2) * 2] * 3
    # The batches of the loop, those that are not augmented, and those that are.
    larger = oversized_shape((8, 8, 8), tiny.augment)
    # Each step of a contender draws its augmentation anew.
    for each in np.reshape(numbers, (3, -1)):
        assert len(np.unique(each)) == len(each) == 2 * 3 * 8
    assert sizes == [larger] * 6 + [(8, 8, 8)] * 6 + [larger] * 6
    rows = read_rows(tmp_path / "run" / LOG_NAME)
    assert {row["kind"] for row in rows} == {"step", "epoch"}
