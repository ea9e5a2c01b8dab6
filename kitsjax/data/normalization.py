"""From HU to the numbers that the network sees: clip, subtract the mean, divide by the deviation.

HU are whole numbers, so a histogram tells every statistic of them exactly, and a table over them
normalizes any patch or volume. Training and prediction use the same table and so see the same
numbers, to the bit. By the setting `preprocess.normalize` the four numbers of a case are

    case        its own: the range are percentiles of all its voxels, and the mean and deviation
                are those of the clipped voxels
    foreground  likewise of the labeled voxels of all training cases together; a model keeps them
    fixed       given in the settings

"foreground" is after nnU-Net's normalization of CT (Isensee et al., Nature Methods 18, 2021), which
takes mean and deviation before clipping, from as many voxels of each case, held-out ones included.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass

import numpy as np

from kitsjax.errors import InputError
from kitsjax.settings import PreprocessSettings

LARGEST_HU = 32767
"""HU are stored from its negative to it, as int16 without the least value of that type."""

_VOXELS_AT_ONCE = 2**18
"""A table is looked up for about so many voxels in one call."""


@dataclass(frozen=True)
class Normalization:
    """The numbers that an image is normalized by, in HU.

    Attributes:
        low, high: the range that HU are clipped to.
        mean: what is subtracted then.
        deviation: what is divided by; 0 for a constant image, which becomes zeros.
    """

    low: float
    high: float
    mean: float
    deviation: float


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many voxels have which HU.

    Attributes:
        hu: (n,) int64, ascending and without repeats.
        counts: (n,) int64, number of voxels of each; may be 0.
    """

    hu: np.ndarray
    counts: np.ndarray


def count_hu(hu: np.ndarray) -> Histogram:
    """Count the HU of an int16 image (z, y, x) of at least one voxel."""
    first, last = int(hu.min()), int(hu.max())
    counts = np.zeros(last - first + 1, np.int64)
    # Plane by plane: bincount makes 64-bit numbers of all that it gets at once.
    for plane in hu:
        counts += np.bincount(plane.ravel().astype(np.int64) - first, minlength=len(counts))
    return Histogram(np.arange(first, last + 1), counts)


def pool_histograms(histograms: Iterable[Histogram]) -> Histogram:
    """Add up histograms, so that each voxel weighs the same; without any the result is empty."""
    found = list(histograms)
    hu = np.unique(np.concatenate([np.empty(0, np.int64), *(one.hu for one in found)]))
    counts = np.zeros(len(hu), np.int64)
    for one in found:
        counts[np.searchsorted(hu, one.hu)] += one.counts
    return Histogram(hu, counts)


def measure_normalization(histogram: Histogram, settings: PreprocessSettings) -> Normalization:
    """Measure the percentiles, and the mean and deviation of the HU clipped at them.

    The numbers are those of np.percentile, np.mean and np.std over the voxels.

    Args:
        histogram: of at least one voxel.
        settings: the percentiles.
    """
    low = percentile(histogram, settings.lower_percentile)
    high = percentile(histogram, settings.upper_percentile)
    clipped, total = np.clip(histogram.hu, low, high), histogram.counts.sum()
    mean = float((histogram.counts * clipped).sum() / total)
    variance = float((histogram.counts * (clipped - mean) ** 2).sum() / total)
    return Normalization(low, high, mean, math.sqrt(variance))


def percentile(histogram: Histogram, percent: float) -> float:
    """Interpolate linearly between the two voxels around a rank, as np.percentile does."""
    upto = np.cumsum(histogram.counts)
    rank = (upto[-1] - 1) * (percent / 100)
    before = math.floor(rank)
    after = min(before + 1, int(upto[-1]) - 1)
    # The voxel of rank r, from 0, has the first HU up to which there are more than r voxels.
    a, b = (float(histogram.hu[np.searchsorted(upto, r, side="right")]) for r in (before, after))
    share = rank - before
    # NumPy interpolates from the nearer end.
    return float(a + (b - a) * share if share < 0.5 else b - (b - a) * (1 - share))


def measure_intensities(
    foregrounds: Iterable[Histogram], settings: PreprocessSettings
) -> tuple[float, ...]:
    """Measure `preprocess.intensities` of the labeled voxels of the training cases.

    Args:
        foregrounds: a histogram of the labeled voxels of each case; a case weighs by their number.
        settings: the percentiles.

    Returns:
        low, high, mean and deviation in HU.

    Raises:
        InputError: There are no labeled voxels, or all of them have the same HU.
    """
    pooled = pool_histograms(foregrounds)
    found = np.unique(pooled.hu[pooled.counts > 0])
    if len(found) > 1 and (normalization := measure_normalization(pooled, settings)).deviation:
        return astuple(normalization)
    what = "all have the same HU" if len(found) else "are none"
    raise InputError(
        f'preprocess.normalize = "foreground": the labeled voxels of the training cases {what}; '
        'check the data set, or choose normalize = "case"'
    )


def choose_normalization(
    settings: PreprocessSettings, count: Callable[[], Histogram]
) -> Normalization:
    """Return the normalization of a case.

    Args:
        settings: whose numbers to use, the percentiles, and the numbers unless they are the case's.
        count: returns the histogram of the case; it is only called if its own numbers are used.

    Raises:
        InputError: The foreground's numbers are to be used, which these settings do not have.
    """
    if settings.normalize == "case":
        return measure_normalization(count(), settings)
    if settings.intensities:
        return Normalization(*settings.intensities)
    raise InputError(
        'preprocess.normalize = "foreground", but preprocess.intensities is empty: training '
        "measures them; use the settings of a trained model (model.preprocess)"
    )


def make_table(normalization: Normalization, dtype: str) -> np.ndarray:
    """Make the table of a normalization: the normalized value of each HU.

    Args:
        normalization: the four numbers.
        dtype: type of the normalized image, "float16" or "float32".

    Returns:
        (65536,) values of that type; an HU's bits as int16, read as uint16, are its index.
    """
    hu = np.arange(2**16, dtype=np.uint16).view(np.int16).astype(np.float64)
    if normalization.deviation == 0:
        return np.zeros(len(hu), dtype)
    values = np.clip(hu, normalization.low, normalization.high) - normalization.mean
    # Half precision is single precision rounded, so that both types agree as well as can be.
    return (values / normalization.deviation).astype(np.float32).astype(dtype)


def normalize(hu: np.ndarray, table: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Normalize an image.

    Args:
        hu: (z, y, x) int16 in HU.
        table: the table of its normalization, from `make_table`.
        out: array of this shape and of the table's type to write to; None: a new one.
    """
    if out is None:
        out = np.empty(hu.shape, table.dtype)
    bits = hu.view(np.uint16)
    # Several planes at a time: few enough that their indices, of 64 bits, stay in the cache, and
    # many enough that threads that read patches seldom meet between two calls of NumPy.
    planes = max(1, _VOXELS_AT_ONCE // max(1, math.prod(hu.shape[1:])))
    index = np.empty((min(planes, len(hu)), *hu.shape[1:]), np.intp)
    values = np.empty(index.shape, table.dtype)
    for first in range(0, len(hu), planes):
        part = bits[first : first + planes]
        found = values[: len(part)]
        index[: len(part)] = part
        # No index is out of range. "clip" is the mode that does not check it beforehand.
        table.take(index[: len(part)], out=found, mode="clip")
        out[first : first + planes] = found
    return out
