"""What a run would need of a device, compiled for the devices that are here."""

import math
from types import SimpleNamespace

import jax
import pytest

from kitsjax.errors import InputError
from kitsjax.plan import cost
from kitsjax.plan.chips import CHIPS
from kitsjax.plan.cost import count_work
from kitsjax.plan.forecast import (
    SHARE_VARIABLES,
    Forecast,
    _complete_labels,
    _find_memory,
    forecast,
)
from kitsjax.settings import (
    AugmentSettings,
    DataSettings,
    NetworkSettings,
    PredictSettings,
    RunSettings,
    SamplingSettings,
    Settings,
    TrainSettings,
)

TINY = Settings(
    sampling=SamplingSettings(patch_shape=(8, 8, 8), batch_size=32),
    # Rotation alone makes the oversized patch larger. Fewer operations compile faster.
    augment=AugmentSettings(mirror=0.0, scale=0.0, brightness=0.0, contrast=0.0, gamma=0.0),
    network=NetworkSettings(features=4, deep_supervision=1, convolution="direct"),
    # The tests' own compilation cache is used, and no other process is waited for.
    run=RunSettings(compilation_cache="", coordinator="nobody:1", processes=2),
)
CT_SHAPE = (16, 12, 8)


def count_as_on_a_tpu(compiled, _, *rest):
    """Count what is left out on a CPU: these small programs have no loops over planes."""
    return count_work(compiled, "tpu", *rest)


@pytest.fixture(scope="module", autouse=True)
def counted():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "count_work", count_as_on_a_tpu)
        yield


@pytest.fixture(scope="module")
def found(counted) -> Forecast:
    return forecast(TINY, ct_shape=CT_SHAPE)


def test_bytes_by_part_are_those_of_the_arrays(found):
    memory = found.train.memory
    assert memory["parameters"] == 4 * found.parameter_count
    # Beside Nesterov's momentum the optimizer keeps a count of steps, and no more.
    assert 0 <= memory["momentum"] - 4 * found.parameter_count <= 64
    patches = TINY.sampling.batch_size // found.device_count
    # The oversized patches, larger than 8 cubed, are half precision images and labels of a byte.
    assert memory["input"] > patches * 8**3 * 3
    assert found.device_count == jax.local_device_count()


def test_an_average_takes_memory_of_its_own(found):
    train = TINY.train.model_copy(update={"ema_decay": 0.9})
    averaged = forecast(TINY.model_copy(update={"train": train}), ct_shape=CT_SHAPE)
    assert averaged.train.memory["average"] == averaged.train.memory["parameters"]
    assert "average" not in found.train.memory


def test_windows_and_work_follow_the_settings(found):
    # The CT has 3 x 2 x 1 windows, computed one at a time on a CPU.
    assert (found.batch_windows, found.window_batches) == (1, 6)
    # The sums over windows of 8 planes; rows and columns are those of the bucket.
    assert found.predict.memory["sums"] == 4 * 4 * 8 * 64 * 64
    assert 0 < found.predict.flops < found.train.flops
    assert found.fits


def test_a_cpus_memory_is_known_its_speed_is_not(found):
    assert found.chip is None
    assert math.isfinite(found.device_memory_bytes)


def test_loops_count_as_often_as_they_run(found):
    """A batch in four micro-batches is the same work, eight mirrorings are eight times the work."""
    looping = TINY.model_copy(
        update={
            # A rotation is little beside the network: it is left out, which compiles faster.
            "augment": TINY.augment.model_copy(update={"rotate": 0.0}),
            "train": TrainSettings(accumulation_steps=4),
            "predict": PredictSettings(mirror=True),
        }
    )
    loops = forecast(looping, ct_shape=CT_SHAPE)
    assert loops.train.flops == pytest.approx(found.train.flops, rel=0.1)
    assert loops.predict.flops == pytest.approx(8 * found.predict.flops, rel=0.05)
    assert loops.predict.bytes_moved > 5 * found.predict.bytes_moved


def test_operations_are_counted_where_xla_cannot(found, monkeypatch):
    """On a CPU, where the bytes are not counted."""
    monkeypatch.setattr(cost, "count_work", count_work)
    counted = forecast(TINY, ct_shape=CT_SHAPE)
    assert counted.train.flops == pytest.approx(found.train.flops, rel=0.2)
    assert counted.predict.flops == pytest.approx(found.predict.flops, rel=0.2)
    assert math.isnan(counted.predict.bytes_moved)


def test_a_data_set_that_cannot_be_opened(tmp_path, caplog):
    """Its labels say how many outputs the network has. One that is not here is not needed."""
    here = DataSettings(root=str(tmp_path))
    settings = TINY.model_copy(update={"data": here})
    assert _complete_labels(settings) == settings
    (told,) = caplog.messages
    assert told.startswith(f"{tmp_path}: holds no data set")
    assert told.endswith("; the labels of the settings are taken")
    caplog.clear()
    for absent in ({"make_phantom": True}, {"root": str(tmp_path / "none")}):
        settings = TINY.model_copy(update={"data": here.model_copy(update=absent)})
        assert _complete_labels(settings) == settings
    assert not caplog.messages


H100 = CHIPS["NVIDIA H100 80GB HBM3"]


@pytest.mark.parametrize("variable", SHARE_VARIABLES)
def test_the_environments_share_of_a_gpu(variable, monkeypatch):
    """Of a GPU that is not here; one that is here says itself what JAX has of it."""
    monkeypatch.setenv(variable, "0.5")
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 7e9})
    assert _find_memory(device, H100, is_here=False) == 40e9
    assert _find_memory(device, H100, is_here=True) == 7e9
    assert _find_memory(device, CHIPS["TPU v4"], is_here=False) == 32 * 2**30
    for wrong in ("most", "-1", "nan"):
        monkeypatch.setenv(variable, wrong)
        with pytest.raises(InputError, match=f"^{variable}={wrong}: give a share of the GPU's"):
            _find_memory(device, H100, is_here=False)


@pytest.mark.parametrize(
    ("kind", "is_here", "limit", "expected"),
    [
        # JAX takes three quarters of a GPU, and all of a TPU; what it says of itself goes first.
        ("NVIDIA H100 80GB HBM3", False, None, 60e9),
        ("NVIDIA H100 80GB HBM3", True, 70e9, 70e9),
        ("NVIDIA H100 80GB HBM3", True, None, 60e9),
        ("TPU v4", False, None, 32 * 2**30),
    ],
)
def test_memory_is_what_jax_has_of_it(kind, is_here, limit, expected, monkeypatch):
    for variable in SHARE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    stats = None if limit is None else {"bytes_limit": limit}
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: stats)
    assert _find_memory(device, CHIPS[kind], is_here=is_here) == expected
