"""The type that voxels are stored as: one that NIfTI has, and that holds every value."""

from typing import Any

import numpy as np

BFLOAT16 = "bfloat16"
"""The name of JAX's type, whose kind is V, as that of types that are no numbers."""

_INTEGERS = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64")

_TYPES = tuple(map(np.dtype, (*_INTEGERS, "float32", "float64")))
"""NIfTI's types of real numbers."""


def to_stored(array: np.ndarray, dtype: Any = None) -> np.ndarray:
    """Convert voxels to the type that they are stored as, and lose nothing on the way.

    A float may be rounded to a float of fewer digits.

    Args:
        array: voxels of any shape.
        dtype: a type of `_TYPES`. None: uint8 for bool, float32 for floats, and for integers their
            own type, or int32 for those of 64 bits that it holds.

    Raises:
        ValueError: The voxels are no real numbers, NIfTI has no such type, or it cannot hold them.
    """
    if array.dtype.name == BFLOAT16:
        array = array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"voxels are {array.dtype}; give real numbers")
    stored = (_choose_type(array) if dtype is None else np.dtype(dtype)).newbyteorder("=")
    if stored not in _TYPES:
        names = ", ".join(map(str, _TYPES))
        raise ValueError(f"NIfTI files hold no {stored}; give a dtype among {names}")
    if stored == array.dtype or not array.size:
        return array.astype(stored, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        converted = array.astype(stored)
    if not _holds(stored, array, converted):
        least, most = array.min(), array.max()
        raise ValueError(
            f"{stored} does not hold the values from {least} to {most} of this {array.dtype} "
            "array; give a dtype that does, or round or clip them before"
        )
    return converted


def _choose_type(array: np.ndarray) -> np.dtype[Any]:
    if array.dtype.kind == "b":
        return np.dtype(np.uint8)
    if array.dtype.kind == "f":
        return np.dtype(np.float32)
    # Few programs read integers of 64 bits.
    narrow = np.dtype(np.int32)
    is_wide = array.dtype.itemsize > 4
    return narrow if is_wide and _in_range(narrow, array) else array.dtype


def _holds(stored: np.dtype[Any], array: np.ndarray, converted: np.ndarray) -> bool:
    """Tell whether a conversion has kept the values of an array."""
    if array.dtype.kind == "b":
        return True
    if stored.kind != "f":
        return _in_range(stored, array) and bool(np.all(converted == array))
    if array.dtype.kind == "f":
        return bool(np.all(np.isfinite(converted) | ~np.isfinite(array)))
    # Beyond this not every integer is a float.
    exact = 2 ** (np.finfo(stored).nmant + 1)
    return -exact <= int(array.min()) and int(array.max()) <= exact


def _in_range(stored: np.dtype[Any], array: np.ndarray) -> bool:
    """Tell whether all values are finite and lie in the range of an integer type."""
    if not array.size:
        return True
    least, most = array.min(), array.max()
    if not (np.isfinite(least) and np.isfinite(most)):
        return False
    info = np.iinfo(stored)
    return info.min <= int(least) and int(most) <= info.max
