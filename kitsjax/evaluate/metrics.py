"""How close two masks are: Dice, surface Dice and the robust Hausdorff distance, all exact.

The distance of a surface element is that to the nearest element of the other surface. For most
elements of a good prediction it is a few corners away, so the corners around each element are
looked up; only for the others a k-d tree is searched. No distance map is computed.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from kitsjax.evaluate.surfaces import Block, Mask, Surface
from kitsjax.types import Spacing

SHARE = 0.95
"""Share of a surface's area that lies within the robust Hausdorff distance."""

_OFFSETS = 256
"""About so many corners around an element are looked up before the tree is searched. In
measurements a prediction as good as a network's then needs no tree, and a poor one loses less than
a tenth of its time."""

_CELL_MM = 4.0
"""The distances of all elements in a cube of this edge are bounded together. In measurements this
takes a third of the time for a prediction with half a million elements of speckle."""

_ROUNDING_MM = 1e-6
"""A bound is widened by this much, which is far above its rounding and far below a voxel."""


class SurfaceScore(NamedTuple):
    """How close two surfaces are.

    Attributes:
        surface_dice: Share of both surfaces' area within the tolerance of the other surface, 0..1.
        hausdorff95_mm: Robust Hausdorff distance; nan if either surface is empty, or no element is
            measured.
    """

    surface_dice: float
    hausdorff95_mm: float


def dice(a: Mask, b: Mask) -> float:
    """Compute the volumetric Dice 2 |A and B| / (|A| + |B|) of two masks of the same volume, 0..1.

    Two empty masks score 1, exactly one empty mask scores 0 (KiTS21's convention).
    """
    total = a.voxels + b.voxels
    return 2 * _count_common(a, b) / total if total else 1.0


def compare_surfaces(a: Surface, b: Surface, tolerance_mm: float) -> SurfaceScore:
    """Compute surface Dice and the robust Hausdorff distance of two surfaces of the same volume.

    Args:
        a: One surface.
        b: The other surface; the scores are symmetric.
        tolerance_mm: Elements up to this far from the other surface count as close.

    Returns:
        The share of both surfaces' area that lies within the tolerance of the other surface, and
        the larger of the two distances (mm) that 95 % of a surface's area does not exceed. Two
        empty surfaces score 1 and exactly one 0 (KiTS21's convention), both with distance nan; so
        do two of which no element is measured (see `Surface`), with score 1.

    Raises:
        ValueError: The surfaces differ in spacing.
    """
    if a.spacing_mm != b.spacing_mm:
        raise ValueError(f"surfaces differ in spacing: {a.spacing_mm} and {b.spacing_mm}")
    elements = len(a.areas_mm2), len(b.areas_mm2)
    if 0 in elements:
        return SurfaceScore(1.0 if elements == (0, 0) else 0.0, np.nan)
    (near_a, far_a), (near_b, far_b) = (_measure(*s, tolerance_mm) for s in ((a, b), (b, a)))
    area = a.areas_mm2.sum() + b.areas_mm2.sum()
    if not area:
        return SurfaceScore(1.0, np.nan)
    return SurfaceScore(float((near_a + near_b) / area), max(far_a, far_b))


def _count_common(a: Mask, b: Mask) -> int:
    """Count the voxels that two masks of the same volume share."""
    slabs = a.by_slab.keys() & b.by_slab.keys()
    return sum(_count_overlap(a.by_slab[slab], b.by_slab[slab]) for slab in slabs)


def _count_overlap(a: Block, b: Block) -> int:
    """Count the voxels that two blocks of the same volume share."""
    low = np.maximum(a.origin, b.origin)
    high = np.minimum(np.add(a.origin, a.array.shape), np.add(b.origin, b.array.shape))
    if np.any(high <= low):
        return 0
    mine, theirs = (
        array[tuple(map(slice, low - origin, high - origin))] for array, origin in (a, b)
    )
    return int(np.count_nonzero(mine & theirs))


def _measure(surface: Surface, other: Surface, tolerance_mm: float) -> tuple[float, float]:
    """Measure one surface against the other.

    Returns:
        The surface's area (mm2) within the tolerance, and the distance (mm) within which `SHARE`
        of its area lies.
    """
    areas = surface.areas_mm2
    if not areas.any():
        return 0.0, 0.0
    distances, reach_mm = _look_up(surface, other, tolerance_mm)
    # A tolerance beyond the reach of the look-up needs every distance.
    if tolerance_mm >= reach_mm:
        far = np.isinf(distances)
        distances[far] = _search_tree(surface.corners[:, far], other)
    percentile_mm = _percentile(distances, areas)
    if percentile_mm == np.inf:
        percentile_mm = _far_percentile(surface, other, distances)
    return float(areas[distances <= tolerance_mm].sum()), percentile_mm


def _look_up(surface: Surface, other: Surface, tolerance_mm: float) -> tuple[np.ndarray, float]:
    """Look up the distances of a surface's elements in the corners around them.

    The look-up finds every element within the tolerance, then goes on until `SHARE` of the area is
    found, but never beyond its reach.

    Returns:
        Distances (n,) in mm, inf where none was found, and the reach in mm.
    """
    offsets, lengths, reach_mm = _ball_offsets(surface.spacing_mm)
    areas, distances = surface.areas_mm2, np.full(len(surface.areas_mm2), np.inf)
    margin = offsets.max(axis=1, keepdims=True)
    # Elements further than the margin from the other surface's box are out of reach, so voxels far
    # away cost nothing. The others are pending.
    low, high = (end(other.corners, axis=1, keepdims=True) for end in (np.min, np.max))
    pending = _find_inside(surface.corners, low - margin, high + margin)
    if not len(pending):
        return distances, reach_mm
    # The grid needs to hold the other surface only as far as the pending elements reach.
    mine = surface.corners[:, pending]
    low = np.maximum(low, np.min(mine, axis=1, keepdims=True) - margin)
    high = np.minimum(high, np.max(mine, axis=1, keepdims=True) + margin)
    theirs = other.corners[:, _find_inside(other.corners, low, high)]

    # Mark the other surface's corners in a flat grid, with two margins on each side so that no
    # offset wraps into the next row.
    shape = tuple((high - low + 1 + 4 * margin).ravel())
    occupied = np.zeros(np.prod(shape), bool)
    occupied[np.ravel_multi_index(tuple(theirs - low + 2 * margin), shape)] = True
    places = np.ravel_multi_index(tuple(mine - low + 2 * margin), shape)
    # This much pending area may stay without a distance; negative if too much is out of reach.
    spare = areas[pending].sum() - SHARE * areas.sum()
    # Go through the offsets, nearest first: an element that meets the other surface has its
    # distance. Beyond the tolerance, stop once `SHARE` of the area has one, or never will.
    steps = np.array([shape[1] * shape[2], shape[2], 1]) @ offsets
    for step, length in zip(steps, lengths, strict=True):
        if length > tolerance_mm and (spare < 0 or areas[pending].sum() < spare):
            break
        hit = occupied[places + step]
        distances[pending[hit]] = length
        pending, places = pending[~hit], places[~hit]
    return distances, reach_mm


@cache
def _ball_offsets(spacing_mm: Spacing) -> tuple[np.ndarray, np.ndarray, float]:
    """List the offsets between corners that lie in a ball as large as `_OFFSETS` voxels.

    Returns:
        Offsets (3, n), nearest first, their lengths (n,) in mm, and the ball's radius in mm.
    """
    radius = float((0.75 / np.pi * _OFFSETS * np.prod(spacing_mm)) ** (1 / 3))
    # One more than the quotient, so that its rounding loses no offset; the lengths decide below.
    reach = [int(radius / step) + 1 for step in spacing_mm]
    grid = np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij")
    offsets = np.stack(grid).reshape(3, -1)
    lengths = _lengths_mm(offsets, spacing_mm)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= radius]
    return offsets[:, order], lengths[order], radius


def _far_percentile(surface: Surface, other: Surface, distances: np.ndarray) -> float:
    """Compute the distance within which `SHARE` of the area lies, if it was beyond the look-up.

    One search bounds the distances of all elements in a cell of `_CELL_MM`. Let c be the cell's
    center, e an element in it, and s the element of the other surface that is nearest to c. The
    distance of e is at most |e - s|, and at least |c - s| - |e - c|. The percentile lies between
    those of the lower and of the upper bounds, so only elements whose bounds reach into this range
    need a search of their own.

    Args:
        surface: The surface to measure.
        other: The surface to measure to; not empty.
        distances: Distances (n,) of the surface's elements, mm; inf where not known.
    """
    # Find the cell of each element without a distance.
    far = np.flatnonzero(np.isinf(distances))
    corners = surface.corners[:, far]
    points_mm = corners.T * surface.spacing_mm
    cells = np.floor(points_mm / _CELL_MM).astype(int).T
    shape = tuple(cells.max(axis=1) + 1)
    cells, cell_of = np.unique(np.ravel_multi_index(tuple(cells), shape), return_inverse=True)
    # Search once for each cell, from its center.
    centers_mm = (np.transpose(np.unravel_index(cells, shape)) + 0.5) * _CELL_MM
    centered_mm, nearest = map(np.asarray, other.tree.query(centers_mm))
    # Bound the distance of each element from below and above.
    aside_mm = np.linalg.norm(points_mm - centers_mm[cell_of], axis=1)
    low, high = distances.copy(), distances.copy()
    low[far] = centered_mm[cell_of] - aside_mm - _ROUNDING_MM
    high[far] = _lengths_mm(corners - other.corners[:, nearest[cell_of]], surface.spacing_mm)
    # Search for the elements that may lie at the percentile; lower bounds do for all others.
    least, most = (_percentile(bound, surface.areas_mm2) for bound in (low, high))
    far = far[(low[far] <= most) & (high[far] >= least)]
    low[far] = _search_tree(surface.corners[:, far], other)
    return _percentile(low, surface.areas_mm2)


def _search_tree(corners: np.ndarray, other: Surface) -> np.ndarray:
    """Return the distances (n,) in mm of corners (3, n) to the nearest element of a surface."""
    _, nearest = other.tree.query(corners.T * other.spacing_mm)
    return _lengths_mm(corners - other.corners[:, nearest], other.spacing_mm)


def _lengths_mm(offsets: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Return the lengths (n,) in mm of offsets (3, n).

    They are rounded as in SciPy's distance map, so that equal distances compare as equal.
    """
    return np.sqrt(np.sum((offsets * np.array(spacing_mm)[:, None]) ** 2, axis=0))


def _find_inside(corners: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the indices of corners (3, n) in the box from low to high (3, 1), both included."""
    return np.flatnonzero(np.all((corners >= low) & (corners <= high), axis=0))


def _percentile(distances: np.ndarray, areas: np.ndarray) -> float:
    """Return the smallest distance (mm) within which `SHARE` of the area lies."""
    order = np.argsort(distances)
    shares = np.cumsum(areas[order]) / areas.sum()
    place = int(np.searchsorted(shares, SHARE))
    return float(distances[order[min(place, len(order) - 1)]])
