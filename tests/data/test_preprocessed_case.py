"""Arrays of a preprocessed case, mapped from its files."""

import numpy as np
import pytest

from kitsjax.data.preprocessed_case import map_array
from kitsjax.errors import InputError


@pytest.mark.parametrize("dtype", ["float16", "uint8", "int32", "bool"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (7,), (0, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_mapped_as_numpy_reads_them(tmp_path, dtype, shape, order):
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    np.save(tmp_path / "a.npy", array if order == "C" else np.asfortranarray(array))
    found = map_array(tmp_path / "a.npy")
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)
    assert not found.flags.writeable or found.size == 0


def test_files_that_are_no_arrays_are_refused(tmp_path):
    objects, whole = tmp_path / "objects.npy", tmp_path / "whole.npy"
    np.save(objects, np.array([{}]))
    np.save(whole, np.zeros(1000))
    content = whole.read_bytes()
    (tmp_path / "short.npy").write_bytes(content[:500])
    (tmp_path / "zeros.npy").write_bytes(bytes(len(content)))
    for name in ("objects", "short", "zeros", "absent"):
        with pytest.raises(InputError, match=rf"{name}\.npy: cannot be read .*makes it again"):
            map_array(tmp_path / f"{name}.npy")


def test_foreground_is_not_held_in_memory(cases):
    # Hundreds of cases of ten thousand positions a class would otherwise stay in it.
    for positions in cases[0].foreground.values():
        assert isinstance(positions, np.memmap)
    assert not any(isinstance(value, dict) for value in vars(cases[0]).values())
