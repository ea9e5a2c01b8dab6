"""The epochs compared are those of the shipped configurations, by the loop of a real run."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import epoch
from benchmarks.part import Job
from kitsjax.config import load_settings
from kitsjax.data.pipeline import Batch
from kitsjax.settings import NetworkSettings, SamplingSettings, Settings, TrainSettings

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(("size", "config"), [("small", "phantom"), ("full", "kits21")])
def test_settings_are_the_configurations(tmp_path, size, config):
    settings = epoch.epoch_settings(Job(tmp_path, size, "", 8))
    shipped = load_settings(CONFIGS / f"{config}.toml")
    for section in ("preprocess", "sampling", "augment", "network", "loss", "optimizer"):
        assert getattr(settings, section) == getattr(shipped, section), section


def test_dummy_batch_is_one_of_the_streams():
    settings = Settings(sampling=SamplingSettings(patch_shape=(8, 16, 8), batch_size=3))
    batch = epoch.dummy_batch(settings)
    assert set(batch) == set(Batch.__annotations__)
    assert batch["image"].shape == batch["label"].shape == (3, 8, 16, 8)
    assert (batch["image"].dtype, batch["label"].dtype) == (np.float16, np.uint8)
    assert set(np.unique(batch["label"])) == {0, 1, 2, 3}


def test_only_epochs_are_read_of_a_runs_log(tmp_path):
    rows = ['{"kind": "step", "step": 1}', '{"kind": "epoch", "epoch": 1, "seconds": 2.5}']
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    assert [row["seconds"] for row in epoch.logged_epochs(tmp_path)] == [2.5]


@pytest.mark.slow
def test_dummy_side_runs_the_real_loop(tmp_path, monkeypatch):
    tiny = Settings(
        # Of eight devices, as the tests have them.
        sampling=SamplingSettings(patch_shape=(8, 8, 8), batch_size=8),
        network=NetworkSettings(features=2, deep_supervision=1),
        train=TrainSettings(epochs=2, batches=3, validation_batches=2),
    )
    monkeypatch.setattr(epoch, "epoch_settings", lambda _: tiny)
    # It would move the tests' own cache of compiled programs.
    monkeypatch.setattr("kitsjax.devices.start_devices", lambda *_, **__: None)
    (tmp_path / "kitsjax").mkdir()
    found = epoch.PART.sides[1].run(Job(tmp_path, "small", "", 1))
    assert len(found.seconds) == 1
    assert found.units == 5
    assert 0 <= found.values["share of time waiting for data"] < 1
    assert (tmp_path / "run-dummy" / "progress.png").exists()
