"""Parameters in half precision: how a model file stores them in half the size."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kitsjax.errors import InputError

Tensors = dict[str, np.ndarray]
"""Arrays by name."""


def halve_tensors(path: str | Path, tensors: Mapping[str, np.ndarray]) -> Tensors:
    """Round float32 tensors to float16; the others stay as they are.

    A parameter is rounded by at most 2**-11 of its value, or 3e-8 if that is more.

    Args:
        path: the file that they are for, which errors name.
        tensors: arrays by name.

    Raises:
        InputError: a parameter is not finite, or larger than float16 can store.
    """
    most = float(np.finfo(np.float16).max)
    for name, tensor in tensors.items():
        if tensor.dtype == np.float32 and not np.all(np.abs(tensor) <= most):
            raise InputError(
                f"{path}: {name} has values that float16 cannot store (above {most:g}, or not "
                "finite); save it as float32"
            )
    return {
        name: tensor.astype(np.float16) if tensor.dtype == np.float32 else tensor
        for name, tensor in tensors.items()
    }


def widen_tensors(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """Convert float16 tensors to float32, which changes no value; the others stay as they are."""
    return {
        name: tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor
        for name, tensor in tensors.items()
    }
