"""Model files in half precision: half the size, float32 in memory, and never an infinite value."""

import jax
import numpy as np
import pytest
from safetensors import safe_open

from kitsjax.errors import InputError
from kitsjax.infer.bundle import load_model, read_bundle, save_bundle
from kitsjax.infer.half_precision import halve_tensors, widen_tensors


def test_half_a_file_loads_as_float32(small_models, small_settings, tmp_path):
    params = jax.device_get(small_models[0].params)
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_bundle(whole, params, small_settings, {"a": 1})
    save_bundle(half, params, small_settings, {"a": 1}, "float16")
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert whole.stat().st_size - half.stat().st_size == pytest.approx(2 * count, abs=600)
    found = read_bundle(half)
    assert (found.settings, found.provenance) == (small_settings, {"a": 1})
    pairs = zip(jax.tree.leaves(found.params), jax.tree.leaves(params), strict=True)
    for ours, theirs in pairs:
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=2**-11, atol=3e-8)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(load_model(half).params))


def test_half_is_the_same_the_second_time(small_models, small_settings, tmp_path):
    """Rounding what is rounded changes nothing, whichever type it is stored in meanwhile."""
    first, second, third = (tmp_path / f"{n}.safetensors" for n in range(3))
    save_bundle(first, small_models[0].params, small_settings, {}, "float16")
    save_bundle(second, read_bundle(first).params, small_settings, {})
    save_bundle(third, read_bundle(second).params, small_settings, {}, "float16")
    # Only the order of the metadata may differ.
    pairs = (jax.tree.leaves(read_bundle(path).params) for path in (first, third))
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(*pairs, strict=True))
    with safe_open(second, framework="np") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {np.dtype("float32")}  # noqa: SIM118


def test_a_damaged_half_is_found(small_models, small_settings, tmp_path):
    path = tmp_path / "half.safetensors"
    save_bundle(path, small_models[0].params, small_settings, {}, "float16")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_bundle(path)


@pytest.mark.parametrize("value", [65_520.0, -1e6, np.inf, np.nan])
def test_what_float16_lacks_is_refused(value):
    tensors = {"fine": np.ones(2, np.float32), "a/kernel": np.array([1, value], np.float32)}
    with pytest.raises(InputError, match="a/kernel has values that float16 cannot"):
        halve_tensors("m.safetensors", tensors)


def test_other_types_stay_as_they_are():
    tensors = {"n": np.arange(3, dtype=np.int32), "x": np.array([65_504.0, 1 / 3], np.float32)}
    half = halve_tensors("m", tensors)
    assert half["n"].dtype == np.int32
    assert half["x"].tolist() == [65_504.0, 0.333251953125]
    wide = widen_tensors(half)
    assert (wide["n"].dtype, wide["x"].dtype) == (np.int32, np.float32)
    assert wide["x"].tolist() == half["x"].tolist()
