from pathlib import Path

import numpy as np
import pytest

from benchmarks import epoch
from benchmarks.definition import Job
from kitsjax.config import load_settings
from kitsjax.data.pipeline import Batch
from kitsjax.settings import NetworkSettings, SamplingSettings, Settings, TrainSettings
from kitsjax.training_log import LOG_NAME, read_rows

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(("size", "config"), [("small", "phantom"), ("full", "kits21")])
def test_settings_are_those_of_the_configurations(tmp_path, size, config):
    settings = epoch.epoch_settings(Job(tmp_path, size, "", 8))
    shipped = load_settings(CONFIGS / f"{config}.toml", ["preprocess.normalize=case"])
    for section in ("preprocess", "sampling", "augment", "network", "loss", "optimizer"):
        assert getattr(settings, section) == getattr(shipped, section), section


def test_dummy_batch_is_as_the_pipelines():
    settings = Settings(sampling=SamplingSettings(patch_shape=(8, 16, 8), batch_size=3))
    batch = epoch.make_device_batch(settings)
    assert set(batch) == set(Batch.__annotations__)
    assert batch["image"].shape == batch["label"].shape == (3, 8, 16, 8)
    assert (batch["image"].dtype, batch["label"].dtype) == (np.float16, np.uint8)
    assert set(np.unique(batch["label"])) == {0, 1, 2, 3}


@pytest.mark.slow
def test_dummy_data_runs_the_real_loop(tmp_path, monkeypatch):
    tiny = Settings(
        # A patch for each of the tests' eight devices.
        sampling=SamplingSettings(patch_shape=(8, 8, 8), batch_size=8),
        network=NetworkSettings(features=2, deep_supervision=1, convolution="direct"),
        train=TrainSettings(epochs=2, batches=3, validation_batches=2),
    )
    monkeypatch.setattr(epoch, "epoch_settings", lambda _: tiny)
    # It would move the tests' own cache of compiled programs.
    monkeypatch.setattr("kitsjax.devices.start_devices", lambda *_, **__: None)
    (tmp_path / "kitsjax").mkdir()
    found = epoch.BENCHMARK.contenders[1].run(Job(tmp_path, "small", "", 1))
    # The first of two epochs warms up, and the log's rows of steps are left out.
    rows = read_rows(tmp_path / "run-dummy" / LOG_NAME)
    assert {row["kind"] for row in rows} == {"step", "epoch"}
    assert found.seconds == [rows[-1]["seconds"]]
    assert found.units == 5
    assert 0 <= found.values["share of time waiting for data"] < 1
    assert (tmp_path / "run-dummy" / "progress.png").exists()
