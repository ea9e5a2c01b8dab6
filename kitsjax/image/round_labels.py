"""Round the values of a stored label map to labels, as far as the file itself explains."""

import numpy as np

from kitsjax.image.header import NiftiHeader

_ROUNDING = 1e-3
"""A value this close to an integer is that integer, whatever rounding a writer has left."""


def label_rounding(header: NiftiHeader) -> float:
    """Return how far a value of this file may be from its label.

    A writer that scales integers rounds to a multiple of the slope, so it may be off by half of
    it. A slope of one or more does not tell labels apart, and explains nothing.
    """
    slope = abs(header.scaling[0])
    explained = slope / 2 if header.dtype.kind in "iu" and slope < 1 else 0.0
    return _ROUNDING + explained


def round_labels(values: np.ndarray, rounding: float, out: np.ndarray) -> np.ndarray:
    """Round values to the nearest labels, and tell where that is right.

    Args:
        values: of any real type.
        rounding: how far a value may be from its label.
        out: uint8 array of the same shape for the labels.

    Returns:
        Boolean array of the same shape: False where a value is too far from every integer from 0
        to 255, or NaN.
    """
    if values.dtype.kind != "f":
        # Values that uint8 cannot hold wrap around, and then differ from what is stored.
        out[...] = values
        return np.asarray(values == out)
    nearest = np.rint(values)
    held = (nearest >= 0) & (nearest <= 255)
    out[...] = np.where(held, nearest, 0)
    with np.errstate(invalid="ignore", over="ignore"):
        return held & (np.abs(values - out) <= rounding)


def describe_scaling(header: NiftiHeader) -> str:
    """Say for a message how a file is scaled and what rounding it explains; empty if it is not."""
    slope, inter = header.scaling
    if (slope, inter) == (1.0, 0.0):
        return ""
    return (
        f" within {label_rounding(header):.3g} (the file is scaled: scl_slope {slope:g}, "
        f"scl_inter {inter:g})"
    )
