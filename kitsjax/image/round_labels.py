"""Round the values of a stored label map to labels, as far as the file itself explains."""

import numpy as np

from kitsjax.image.header import NiftiHeader

_ROUNDING = 1e-3
"""A float this close to an integer is that integer, whatever rounding a writer has left."""

_FLOAT_ERROR = 2.0**-22
"""Slope and intercept are rounded to float32, which moves a value by this part of it at most."""


def label_rounding(header: NiftiHeader) -> float:
    """Return how far a value of this file may be from its label, apart from float32's rounding.

    A writer that scales integers rounds to a multiple of the slope, so it may be off by half of
    it. A slope of one or more does not tell labels apart, and explains nothing.
    """
    if header.dtype.kind == "f":
        return _ROUNDING
    slope = abs(header.scaling[0])
    return slope / 2 if slope < 1 else 0.0


def round_labels(values: np.ndarray, header: NiftiHeader, out: np.ndarray) -> np.ndarray:
    """Round values to the nearest labels, and tell where that is right.

    Args:
        values: of any real type, with slope and intercept applied.
        header: the header of their file.
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
        allowed = label_rounding(header) + _FLOAT_ERROR * (abs(values) + abs(header.scaling[1]))
        return held & (np.abs(values - out) <= allowed)


def describe_scaling(header: NiftiHeader) -> str:
    """Say for a message how a file is scaled and what rounding it explains; empty if it is not."""
    slope, inter = header.scaling
    if (slope, inter) == (1.0, 0.0):
        return ""
    return (
        f" within {label_rounding(header):.3g} (the file is scaled: scl_slope {slope:g}, "
        f"scl_inter {inter:g})"
    )
