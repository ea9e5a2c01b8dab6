"""The numbers that the network sees of a CT: clipped to HU, resampled and normalized.

Training and prediction both use `preprocess`, so that they see the same numbers, the rounding to
half precision included.
"""

import logging
import math
from collections.abc import Sequence

import numpy as np

from kitsjax.errors import InputError
from kitsjax.image.resample import resample_image, resampled_shape
from kitsjax.image.volume import Volume, check_real, format_numbers
from kitsjax.settings import PreprocessSettings
from kitsjax.types import Shape

_NOT_FINITE = "holds voxels that are not finite numbers; give HU values"

MOST_VOXELS = 2**30
"""Largest number of voxels of a preprocessed image: a cube of two meters at 1.99 mm, and 4 GiB."""

FEWEST_VOXELS = 64
"""A preprocessed image of fewer voxels, each made of more than `MOST_MERGED`, is no patient's."""

MOST_MERGED = 1000
"""Number of voxels of a CT that one preprocessed voxel may stand for in so small an image."""


NOTED_SHARE = 0.01
"""A note tells of a CT of which more than this share of the voxels was clipped."""


def preprocess(volume: Volume, settings: PreprocessSettings) -> np.ndarray:
    """Clip, resample and normalize a CT to the array that the network sees.

    A note is logged if more than 1 % of the voxels lie beyond `settings.hu_range`: scanners write
    values far below air where they measure nothing, outside of their round field of view.

    Args:
        volume: CT in HU.
        settings: range of HU, spacing, percentiles and stored type.

    Returns:
        (z, y, x) array of `settings.dtype` that covers the volume from edge to edge. Its voxels are
        isotropic but for the rounding of the shape to whole voxels.

    Raises:
        TypeError: The voxels are no real numbers.
        InputError: A voxel is not finite, or the voxels are so large, or so small, that their
            spacing cannot be in mm.
    """
    check_real(volume.array)
    shape = resampled_shape(volume.array.shape, volume.spacing_mm, settings.spacing_mm)
    name = volume.grid.name
    _check_shape(volume, shape, settings.spacing_mm)
    with np.errstate(over="ignore", invalid="ignore"):
        resampled = resample_image(_clip_hu(volume.array, settings.hu_range, name), shape)
    # The spline passes on what is not finite, and the resampled image has fewer voxels to check.
    if not np.isfinite(resampled).all():
        raise InputError(f"{name}: {_NOT_FINITE}")
    return normalize(resampled, settings).astype(settings.dtype)


def _clip_hu(array: np.ndarray, hu_range: Sequence[float], name: str) -> np.ndarray:
    """Clip an image (z, y, x) to a range of HU; without a range or a need, return the image itself.

    Raises:
        InputError: A voxel is infinite.
    """
    if not hu_range:
        return array
    low, high = hu_range
    # Plane by plane, so that what is compared stays in the processor's cache.
    beyond = sum(int(np.count_nonzero((plane < low) | (plane > high))) for plane in array)
    if not beyond:
        return array
    least, most = array.min(), array.max()
    if not np.isfinite([least, most]).all():
        raise InputError(f"{name}: {_NOT_FINITE}")
    if beyond > NOTED_SHARE * array.size:
        logging.getLogger(__name__).warning(
            "%s: %.1f %% of its voxels lie beyond %g to %g HU (the file has %g to %g) and are "
            "clipped to it (preprocess.hu_range)",
            name, 100 * beyond / array.size, low, high, least, most,
        )  # fmt: skip
    clipped = array.astype(np.float32)
    return np.clip(clipped, np.float32(low), np.float32(high), out=clipped)


def _check_shape(volume: Volume, shape: Shape, spacing_mm: float) -> None:
    """Refuse a spacing that makes a CT far too large, or all of it a few voxels."""
    voxels = math.prod(shape)
    merged = math.prod(volume.array.shape) / voxels
    if voxels > MOST_VOXELS:
        verdict = "too many"
    elif voxels < FEWEST_VOXELS and merged > MOST_MERGED:
        verdict = "too few"
    else:
        return
    raise InputError(
        f"{volume.grid.name}: its spacing of {format_numbers(volume.spacing_mm)} mm would make "
        f"{shape} voxels at {spacing_mm:g} mm, {verdict} for a CT; correct the spacing"
    )


def normalize(array: np.ndarray, settings: PreprocessSettings) -> np.ndarray:
    """Clip an image at its own percentiles, subtract its mean and divide by its deviation.

    The percentiles, the mean and the standard deviation are those of all voxels.

    Args:
        array: image of any shape and real type; it is not changed.
        settings: the percentiles.

    Returns:
        float32 array of the same shape; zeros for a constant image.
    """
    image = np.array(array, np.float32)
    low, high = np.percentile(image, (settings.lower_percentile, settings.upper_percentile))
    np.clip(image, low, high, out=image)
    # Sums of millions of voxels need float64.
    image -= np.mean(image, dtype=np.float64)
    deviation = np.std(image, dtype=np.float64)
    # The image is constant when all that is left of it is rounding error.
    if deviation <= 1e-6 * max(abs(low), abs(high)):
        return np.zeros_like(image)
    image /= deviation
    return image
