"""From a CT to the image that the network sees: clipped, resampled to whole HU, and normalized.

Training stores the HU of `resample_hu`, and normalizes each patch that it reads. Prediction
normalizes the whole image. Both use the same table, so that they see the same numbers, the
rounding to half precision included.
"""

import logging
import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from kitsjax.data.normalization import (
    LARGEST_HU,
    choose_normalization,
    count_hu,
    make_table,
    normalize,
)
from kitsjax.errors import InputError
from kitsjax.image.resample import resample_image, resampled_shape
from kitsjax.image.volume import Grid, Volume, check_real, format_numbers, require_volume
from kitsjax.settings import PreprocessSettings
from kitsjax.types import Shape

_NOT_FINITE = "holds voxels that are not finite numbers; give HU values"

_logger = logging.getLogger(__name__)

MOST_VOXELS = 2**30
"""Largest number of voxels of a preprocessed image: a cube of two meters at 1.99 mm, and 4 GiB."""

FEWEST_VOXELS = 64
"""A preprocessed image of fewer voxels, each made of more than `MOST_MERGED`, is no patient's."""

MOST_MERGED = 1000
"""Number of voxels of a CT that one preprocessed voxel may stand for in so small an image."""

NARROW_HU = 20.0
"""An image whose values span less than this, but are not all equal, is hardly in HU."""

NOTED_SHARE = 0.01
"""A note tells of a CT of which more than this share of the voxels was clipped."""


def preprocess(volume: Volume, settings: PreprocessSettings) -> np.ndarray:
    """Clip, resample and normalize a CT to the array that the network sees.

    Args:
        volume: CT in HU.
        settings: range of HU, spacing, normalization and type; those of a trained model are
            `model.preprocess`.

    Returns:
        (z, y, x) array of `settings.dtype` that covers the volume from edge to edge. Its voxels are
        isotropic but for the rounding of the shape to whole voxels.

    Raises:
        TypeError: The CT is no volume, or the settings are no `PreprocessSettings`.
        InputError: See `resample_hu`; or `settings.normalize` is "foreground", and the settings
            have no intensities, since they are no model's.
    """
    require_volume(volume, "preprocess")
    if not isinstance(settings, PreprocessSettings):
        raise TypeError("settings are PreprocessSettings, such as model.preprocess of a model")
    image: np.ndarray = preprocess_images(volume, [settings])[0]
    return image


def preprocess_images(volume: Volume, settings: Sequence[PreprocessSettings]) -> np.ndarray:
    """Make one image for each of several settings that differ in the normalization alone.

    The CT is resampled once. Errors are those of `preprocess`.

    Returns:
        (image, z, y, x) of `dtype`.
    """
    hu = resample_hu(volume, settings[0])
    # Percentiles of the case need its histogram, which is then the same for all.
    count = cache(lambda: count_hu(hu))
    images = np.empty((len(settings), *hu.shape), settings[0].dtype)
    for own, image in zip(settings, images, strict=True):
        normalize(hu, make_table(choose_normalization(own, count), own.dtype), image)
    return images


def resample_hu(volume: Volume, settings: PreprocessSettings) -> np.ndarray:
    """Clip a CT to `settings.hu_range` and resample it to isotropic voxels of whole HU.

    A note is logged if more than 1 % of the voxels lie beyond the range: scanners write values far
    below air where they measure nothing, outside of their round field of view. The spline may
    overshoot the range at sharp edges; it is cut at what int16 holds only.

    Args:
        volume: CT in HU.
        settings: range of HU and spacing.

    Returns:
        (z, y, x) int16, from -`LARGEST_HU` to `LARGEST_HU`.

    Raises:
        TypeError: The voxels are no real numbers.
        InputError: A voxel is not finite, or see `preprocessed_shape`.
    """
    check_real(volume.array)
    shape, name = preprocessed_shape(volume.grid, settings.spacing_mm), volume.grid.name
    with np.errstate(over="ignore", invalid="ignore"):
        resampled = resample_image(_clip_hu(volume.array, settings.hu_range, name), shape)
    # The spline passes on what is not finite, and the resampled image has fewer voxels to check.
    if not np.isfinite(resampled).all():
        raise InputError(f"{name}: {_NOT_FINITE}")
    _note_narrow_range(resampled, name)
    hu = np.empty(shape, np.int16)
    for plane, target in zip(resampled, hu, strict=True):
        target[:] = np.rint(plane.clip(-LARGEST_HU, LARGEST_HU))
    return hu


def preprocessed_shape(grid: Grid, spacing_mm: float) -> Shape:
    """Return the shape (z, y, x) of a CT after preprocessing.

    Args:
        grid: the CT's grid.
        spacing_mm: isotropic voxel edge after preprocessing.

    Raises:
        InputError: The CT would be far too large, or all of it a few voxels, so that its spacing
            cannot be in mm.
    """
    shape = resampled_shape(grid.shape, grid.spacing_mm, spacing_mm)
    voxels = math.prod(shape)
    if voxels > MOST_VOXELS:
        verdict = "too many"
    elif voxels < FEWEST_VOXELS and math.prod(grid.shape) > MOST_MERGED * voxels:
        verdict = "too few"
    else:
        return shape
    raise InputError(
        f"{grid.name}: its spacing of {format_numbers(grid.spacing_mm)} mm would make {shape} "
        f"voxels at {spacing_mm:g} mm, {verdict} for a CT; correct the spacing"
    )


def _note_narrow_range(image: np.ndarray, name: str) -> None:
    """Log a note if an image's values lie so close together that they cannot be HU."""
    spread = float(image.max()) - float(image.min())
    if 0 < spread < NARROW_HU:
        _logger.warning(
            "%s: its values span %.3g only, which HU do not; they are rounded to whole HU, so give "
            "the CT in HU", name, spread,
        )  # fmt: skip


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
        _logger.warning(
            "%s: %.1f %% of its voxels lie beyond %g to %g HU (the file has %g to %g) and are "
            "clipped to it (preprocess.hu_range)",
            name, 100 * beyond / array.size, low, high, least, most,
        )  # fmt: skip
    clipped = array.astype(np.float32)
    return np.clip(clipped, np.float32(low), np.float32(high), out=clipped)
