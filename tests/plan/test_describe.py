"""The texts about a run: its forecast, the advice in it, and the plan at its start."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from kitsjax.plan.chips import CHIPS, GIB, Chip
from kitsjax.plan.cost import Cost
from kitsjax.plan.describe import describe_plan, describe_run
from kitsjax.plan.forecast import CT_SHAPE, Forecast
from kitsjax.settings import (
    LossSettings,
    NetworkSettings,
    SamplingSettings,
    Settings,
    TrainSettings,
)

TRAIN = TrainSettings(epochs=10, batches=30, validation_batches=6)
TINY = Settings(
    sampling=SamplingSettings(patch_shape=(16, 16, 16), batch_size=8),
    network=NetworkSettings(features=4, deep_supervision=1),
    train=TRAIN,
)
CHIP = Chip("chip", 2 * GIB, flops_per_second=1e12, bytes_per_second=1e9)


def make_forecast(train: Cost, devices: int = 2) -> Forecast:
    return Forecast(
        device_kind="kind",
        device_count=devices,
        chip=CHIP,
        device_memory_bytes=CHIP.memory_bytes,
        parameter_count=1000,
        train=train,
        predict=Cost(1e12, 1e9, {"parameters": float(GIB)}),
        ct_shape=CT_SHAPE,
        batch_windows=2,
        window_batches=9,
    )


FITTING = make_forecast(Cost(2e12, 1e9, {"parameters": 1.5 * GIB}))
LARGE = make_forecast(Cost(2e12, 1e9, {"activations and temporary": 3.0 * GIB}))


def test_what_fits_gets_its_roofline_bounds():
    text = describe_plan(FITTING, TINY)
    assert "fits: 1.5 GiB of 2 GiB per device (parameters 1.5 GiB)" in text
    work = (
        "a step: 2 TFLOP and 0.931 GiB moved; at least 2 s (roofline bound, limited by arithmetic)"
    )
    assert work in text
    # There are 10 epochs of 30 steps, and of 6 validation steps at a third of the work.
    assert "300 steps and the validation: at least 10.7 min" in text
    # 9 batches of windows take a second each.
    assert "a CT of 256 x 256 x 256 (51 cm): at least 9 s" in text
    assert "change" not in text


def test_what_does_not_fit_says_what_to_change():
    assert not LARGE.fits
    text = describe_plan(LARGE, TINY)
    assert "DOES NOT FIT: 3 GiB of 2 GiB" in text
    for advice in (
        "network.remat=true",
        "train.accumulation_steps=2: 2 patch(es) at a time",
        "4 such devices: 2 patch(es) each",
    ):
        assert advice in text
    remat = TINY.network.model_copy(update={"remat": True})
    again = describe_plan(LARGE, TINY.model_copy(update={"network": remat}))
    assert "network.remat=true" not in again


def test_advice_can_be_followed():
    """Three patches on one device are not halved, and a CPU is not doubled."""
    odd = TINY.model_copy(update={"sampling": TINY.sampling.model_copy(update={"batch_size": 3})})
    text = describe_plan(replace(LARGE, device_count=1), odd)
    assert "train.accumulation_steps=3: 1 patch(es) at a time" in text
    assert "such devices" not in text
    # Two micro-batches of two patches on two devices need four patches on four.
    even = TINY.sampling.model_copy(update={"batch_size": 4})
    twice = TINY.train.model_copy(update={"accumulation_steps": 2})
    four = TINY.model_copy(update={"sampling": even, "train": twice})
    assert "such devices" not in describe_plan(replace(LARGE, device_count=2), four)
    assert "2 such devices" in describe_plan(replace(LARGE, device_count=1), four)


@pytest.mark.parametrize(("share", "told"), [(0.75, True), (0.95, False)])
def test_more_of_a_gpu_is_told_unless_taken(share, told):
    chip = CHIPS["NVIDIA H100 80GB HBM3"]
    needed = Cost(2e12, 1e9, {"activations and temporary": 1e12})
    found = replace(make_forecast(needed), chip=chip, device_memory_bytes=share * chip.memory_bytes)
    assert ("XLA_CLIENT_MEM_FRACTION=0.95 in the env" in describe_plan(found, TINY)) == told


@pytest.mark.parametrize(
    ("change", "faster"),
    [
        ({}, True),
        ({"train": TRAIN.model_copy(update={"accumulation_steps": 4})}, False),
        # A Dice over the whole batch would become one over a micro-batch.
        ({"loss": LossSettings(dice_per_batch=True)}, False),
    ],
)
def test_a_tpu_is_faster_a_patch_at_a_time(change, faster):
    tpu = replace(FITTING, device_kind="TPU v5 lite")
    text = describe_plan(tpu, TINY.model_copy(update=change))
    advice = "--set train.accumulation_steps=4: the same result, one patch at a time"
    assert (advice in text) == ("faster" in text) == faster


def test_a_refusal_is_told_without_a_bound():
    refused = Cost(memory={"all": 20.5 * GIB}, refusal="Used 20.50G of 15.75G hbm.")
    text = describe_plan(make_forecast(refused), TINY)
    assert "DOES NOT FIT: 20.5 GiB of 2 GiB" in text
    assert "steps and the validation" not in text
    unsized = Cost(refusal="out of memory")
    assert "DOES NOT FIT: out of memory" in describe_plan(make_forecast(unsized), TINY)


def test_a_device_of_unknown_speed_gets_no_bound():
    text = describe_plan(replace(FITTING, chip=None), TINY)
    assert "kitsjax/plan/chips.py does not list it" in text
    assert "at least" not in text


def test_the_plan_counts_all_micro_batches(monkeypatch):
    compiled = SimpleNamespace(
        cost_analysis=lambda: {"flops": 3e9, "bytes accessed": 2.0 * GIB},
        memory_analysis=lambda: SimpleNamespace(temp_size_in_bytes=GIB),
    )
    settings = TINY.model_copy(update={"train": TRAIN.model_copy(update={"accumulation_steps": 4})})
    params = {"kernel": jnp.zeros((30, 40)), "bias": jnp.zeros(40)}
    text = describe_run(settings, params, compiled, Path("out"), (5, 2), 60)
    assert "step  1.00 GiB temporary memory (XLA's analysis)" in text
    monkeypatch.setattr("kitsjax.plan.describe.jax.default_backend", lambda: "gpu")
    text = describe_run(settings, params, compiled, Path("out"), (5, 2), 60)
    for words in (
        f"{jax.device_count()} x cpu (cpu) in 1 process(es)",
        "5 to train on, 2 held out",
        "1,240 parameters, 1 deep supervision output(s)",
        "8 patches of 16 x 16 x 16 voxels at 1.99 mm",
        "12.0 GFLOP and 8.00 GiB moved per device, 1.00 GiB temporary memory",
        "10 epochs x 30 = 300, resumed after step 60",
        "out",
    ):
        assert words in text
    shared = describe_run(settings, params, None, Path("out"), (5, 2), 0)
    assert "several processes share it" in shared
    assert "resumed" not in shared


def test_training_cases_are_not_called_held_out():
    text = describe_run(TINY, {}, None, Path("out"), (5, 0), 0)
    assert "5 to train on, none held out; validation uses these, too" in text
