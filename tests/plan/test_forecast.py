"""What a run would need of a device, compiled for this one."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from kitsjax.errors import InputError
from kitsjax.plan import forecast as module
from kitsjax.plan.chips import CHIPS, GIB, Chip
from kitsjax.plan.forecast import Cost, Forecast, forecast
from kitsjax.plan.forecast_text import describe_forecast
from kitsjax.settings import (
    NetworkSettings,
    RunSettings,
    SamplingSettings,
    Settings,
    TrainSettings,
)

ROOT = Path(__file__).parents[2]

TINY = Settings(
    sampling=SamplingSettings(patch_shape=(16, 16, 16), batch_size=8),
    network=NetworkSettings(features=4, deep_supervision=1),
    train=TrainSettings(epochs=10, batches=30, validation_batches=6),
    # The tests' own cache, not the user's; nobody is waited for, as nothing is run.
    run=RunSettings(compilation_cache="", coordinator="nobody:1", processes=2),
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
    assert Cost(flops=3e12, moved_bytes=2e9).roofline_seconds(CHIP) == 3
    assert Cost(flops=3e12, moved_bytes=5e9).roofline_seconds(CHIP) == 5


def test_loops_count_as_often_as_they_run(found):
    """A batch in four parts is the same work; eight mirrorings are eight times the work."""
    often = TINY.model_copy(
        update={
            "train": TINY.train.model_copy(update={"accumulation_steps": 4}),
            "predict": TINY.predict.model_copy(update={"mirror": True}),
            "sampling": TINY.sampling.model_copy(update={"batch_size": 32}),
        }
    )
    whole = TINY.model_copy(update={"sampling": often.sampling})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CT_SHAPE", (32, 24, 16))
        parts, at_once = forecast(often), forecast(whole)
    assert parts.train.flops == pytest.approx(at_once.train.flops, rel=0.1)
    assert parts.predict.flops == pytest.approx(8 * found.predict.flops, rel=0.05)
    assert parts.predict.moved_bytes > 5 * found.predict.moved_bytes


def test_advice_can_be_followed():
    """Three patches on one device are not halved, and a CPU is not doubled."""
    odd = TINY.model_copy(update={"sampling": TINY.sampling.model_copy(update={"batch_size": 3})})
    large = make(Cost(2e12, 1e9, {"parameters": 3.0 * GIB}), devices=1)
    text = describe_forecast(large, odd)
    assert "train.accumulation_steps=3: 1 at a time" in text
    assert "such devices" not in text


def test_a_tpu_is_quicker_with_a_patch_at_a_time():
    fits = replace(make(Cost(2e12, 1e9, {"parameters": 1.0 * GIB})), kind="TPU v5 lite")
    assert "--set train.accumulation_steps=4: the same, a patch at a time" in describe_forecast(
        fits, TINY
    )
    single = TINY.model_copy(
        update={"train": TINY.train.model_copy(update={"accumulation_steps": 4})}
    )
    assert "faster" not in describe_forecast(fits, single)
    per_batch = TINY.model_copy(
        update={"loss": TINY.loss.model_copy(update={"dice_per_batch": True})}
    )
    assert "faster" not in describe_forecast(fits, per_batch)


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
    for advice in (
        "network.remat=true",
        "train.accumulation_steps=2: 2 at a time",
        "4 such devices: 2 of",
    ):
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

    cost = module._measure(Lowered(), {}, 1, 0)
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


@pytest.mark.parametrize("target", ["", "v5e", "h100:1", "v5e:2by2", "v5e:0x0"])
def test_an_unknown_target_is_refused(target):
    with pytest.raises(InputError, match="not a TPU slice; write its chips as v5e:2x2"):
        module.tpu_devices(target)


def test_a_target_needs_the_compiler(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs libtpu's compiler"):
        module.tpu_devices("v5e:2x2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "v5e:2x2"], "--target goes with --plan"),
        (["--target", ""], "--target goes with --plan"),
        (["--plan", "--resume"], "leave out --resume"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    command = [sys.executable, str(ROOT / "bin" / "train.py"), *options]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert message in run.stderr


def test_a_platform_that_is_not_there_is_told_in_a_line():
    command = [sys.executable, str(ROOT / "bin" / "train.py"), "--plan"]
    environment = {**os.environ, "JAX_PLATFORMS": "nonsense"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "JAX finds no device for JAX_PLATFORMS='nonsense'" in run.stderr
