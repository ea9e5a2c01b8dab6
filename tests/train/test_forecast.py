"""What a run would need of a device, compiled for this one."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from kitsjax.errors import InputError
from kitsjax.settings import (
    NetworkSettings,
    RunSettings,
    SamplingSettings,
    Settings,
    TrainSettings,
)
from kitsjax.train import forecast as module
from kitsjax.train.chips import CHIPS, GIB, Chip
from kitsjax.train.forecast import Cost, Forecast, forecast
from kitsjax.train.forecast_text import describe_forecast

ROOT = Path(__file__).parents[2]

TINY = Settings(
    sampling=SamplingSettings(patch_shape=(16, 16, 16), batch_size=8),
    network=NetworkSettings(features=4, heads=1),
    train=TrainSettings(epochs=10, batches=30, validation_batches=6),
    # The tests' own, not the user's.
    run=RunSettings(compilation_cache=""),
)

CHIP = Chip("chip", 2 * GIB, flops=1e12, bandwidth=1e9)


@pytest.fixture(scope="module")
def found() -> Forecast:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CT_SHAPE", (32, 24, 16))
        return forecast(TINY)


def test_bytes_by_part_are_those_of_the_arrays(found):
    parts = found.train.parts
    assert parts["parameters"] == 4 * found.parameters
    # Nesterov's momentum, a step count, and no more.
    assert 0 <= parts["momentum"] - 4 * found.parameters <= 64
    patches = TINY.sampling.batch_size // found.devices
    # Source patches are larger than 16 cubed: half precision, and labels.
    assert parts["input"] > patches * 16**3 * 3
    assert found.devices == jax.local_device_count()


def test_windows_and_operations_are_those_of_the_settings(found):
    # 3 x 2 x 1 windows, one at a time on a CPU.
    assert (found.windows, found.rounds) == (1, 6)
    assert 0 < found.predict.flops < found.train.flops
    assert found.fits


def test_the_floor_is_the_slower_of_arithmetic_and_bytes():
    assert Cost(flops=3e12, moved_bytes=2e9).floor_seconds(CHIP) == 3
    assert Cost(flops=3e12, moved_bytes=5e9).floor_seconds(CHIP) == 5


def make(train: Cost, predict: Cost | None = None, devices: int = 2) -> Forecast:
    small = Cost(1e12, 1e9, {"parameters": float(GIB)})
    return Forecast("kind", devices, CHIP, CHIP.memory_bytes, 1000, train, predict or small, 2, 9)


def test_what_fits_says_how_long_at_best():
    text = describe_forecast(make(Cost(2e12, 1e9, {"parameters": 1.5 * GIB})), TINY)
    assert "fits: 1.5 GiB of 2 GiB a device (parameters 1.5 GiB)" in text
    assert "2 TFLOP and 0.931 GiB moved, a step: 2 s at best, bound by arithmetic" in text
    # 10 epochs of 30 steps, and 6 of validation at a third.
    assert "300 steps and the validation: 10.7 min at best" in text
    assert "change" not in text


def test_what_does_not_fit_says_what_to_change():
    large = make(Cost(2e12, 1e9, {"activations and temporary": 3.0 * GIB}))
    assert not large.fits
    text = describe_forecast(large, TINY)
    assert "DOES NOT FIT: 3 GiB of 2 GiB" in text
    for advice in ("network.remat=true", "train.accumulate=2", "a slice of 4 chips"):
        assert advice in text
    remat = TINY.network.model_copy(update={"remat": True})
    again = describe_forecast(large, TINY.model_copy(update={"network": remat}))
    assert "network.remat=true" not in again


def test_the_compilers_refusal_is_told():
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.\n"
        "Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G."
    )

    class Lowered:
        def compile(self):
            raise jax.errors.JaxRuntimeError(message)

    cost = module._measure(Lowered(), {})
    assert cost.total_bytes == 20.5 * GIB
    text = describe_forecast(make(cost), TINY)
    assert "DOES NOT FIT: 20.5 GiB of 2 GiB" in text
    assert "steps and the validation" not in text


def test_a_device_of_unknown_rates_gets_no_floor(found):
    text = describe_forecast(replace(found, chip=None), TINY)
    assert "not in kitsjax/train/chips.py" in text
    assert "at best" not in text
    assert math.isfinite(found.memory_bytes)


def test_chips_are_plausible():
    for chip in CHIPS.values():
        assert 10 * GIB < chip.memory_bytes < 200 * GIB
        assert 100e12 < chip.flops < 2e15
        assert 100 < chip.flops / chip.bandwidth < 700


@pytest.mark.parametrize("target", ["v5e", "h100:1", "v5e:2by2"])
def test_an_unknown_target_is_refused(target, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    with pytest.raises(InputError, match="not a TPU slice; write it as v5e:2x2"):
        module.tpu_devices(target)


def test_a_target_needs_the_compiler(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs libtpu's compiler"):
        module.tpu_devices("v5e:2x2")


def test_target_without_plan_is_a_mistake():
    command = [sys.executable, str(ROOT / "bin" / "train.py"), "--target", "v5e:2x2"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "--target goes with --plan" in run.stderr
