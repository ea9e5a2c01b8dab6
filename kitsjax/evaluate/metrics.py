"""How close two masks are: Dice, surface Dice and the robust Hausdorff distance, exact.

An element's distance is that to the nearest element of the other surface. Most elements of a good
prediction have one within a few corners, so those are looked up instead of computing a distance
map; the few others ask a tree.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from kitsjax.evaluate.surfaces import Block, Mask, Surface
from kitsjax.types import Spacing

SHARE = 0.95
"""Share of a surface's area that lies within the robust Hausdorff distance."""

_OFFSETS = 256
"""About how many corners around an element are looked up before a tree is asked. Measured: a
prediction as good as a network's then needs no tree, and a poor one wastes under a tenth of its
time."""

_CELL_MM = 4.0
"""Edge of the cells whose elements' distances are bounded together. Measured: a prediction with
half a million elements of speckle takes a third of the time."""

_ROUNDING_MM = 1e-6
"""Far above the rounding of a bound, far below a voxel."""


class SurfaceScore(NamedTuple):
    """How close two surfaces are; see `compare_surfaces`."""

    surface_dice: float
    hausdorff95_mm: float


def dice(a: Mask, b: Mask) -> float:
    """Volumetric Dice of two masks of the same volume, 2 |A and B| / (|A| + |B|), in 0..1.

    Two empty masks score 1, exactly one empty mask scores 0 (KiTS21).
    """
    total = a.voxels + b.voxels
    return 2 * _count_common(a, b) / total if total else 1.0


def compare_surfaces(a: Surface, b: Surface, tolerance_mm: float) -> SurfaceScore:
    """Surface Dice and the robust Hausdorff distance of two surfaces of the same volume.

    Surface Dice, in 0..1, is the share of both surfaces' area that lies within the tolerance of
    the other surface. The Hausdorff distance, in mm, is the larger of the two surfaces' distances
    that 95 % of their area does not exceed. Two empty surfaces score 1 and exactly one 0 (KiTS21),
    both with the distance nan.

    Raises:
        ValueError: the surfaces differ in spacing.
    """
    if a.spacing_mm != b.spacing_mm:
        raise ValueError(f"surfaces differ in spacing: {a.spacing_mm} and {b.spacing_mm}")
    elements = len(a.areas_mm2), len(b.areas_mm2)
    if 0 in elements:
        return SurfaceScore(1.0 if elements == (0, 0) else 0.0, np.nan)
    (near_a, far_a), (near_b, far_b) = (_measure(*s, tolerance_mm) for s in ((a, b), (b, a)))
    area = a.areas_mm2.sum() + b.areas_mm2.sum()
    return SurfaceScore(float((near_a + near_b) / area), max(far_a, far_b))


def _count_common(a: Mask, b: Mask) -> int:
    """How many voxels two masks of the same volume share."""
    slabs = a.by_slab.keys() & b.by_slab.keys()
    return sum(_count_overlap(a.by_slab[slab], b.by_slab[slab]) for slab in slabs)


def _count_overlap(a: Block, b: Block) -> int:
    low = np.maximum(a.origin, b.origin)
    high = np.minimum(np.add(a.origin, a.array.shape), np.add(b.origin, b.array.shape))
    if np.any(high <= low):
        return 0
    mine, theirs = (
        array[tuple(map(slice, low - origin, high - origin))] for array, origin in (a, b)
    )
    return int(np.count_nonzero(mine & theirs))


def _measure(surface: Surface, other: Surface, tolerance_mm: float) -> tuple[float, float]:
    """A surface's area (mm2) within the tolerance, and the distance (mm) `SHARE` of it is in."""
    areas = surface.areas_mm2
    distances, reach_mm = _look_up(surface, other, tolerance_mm)
    if tolerance_mm >= reach_mm:
        far = np.isinf(distances)
        distances[far] = _ask_tree(surface.corners[:, far], other)
    percentile_mm = _percentile(distances, areas)
    if percentile_mm == np.inf:
        percentile_mm = _far_percentile(surface, other, distances)
    return float(areas[distances <= tolerance_mm].sum()), percentile_mm


def _look_up(surface: Surface, other: Surface, tolerance_mm: float) -> tuple[np.ndarray, float]:
    """Distances of a surface's elements, inf for those not found, and the reach of the search.

    Finds every element within the tolerance, then goes on until `SHARE` of the area is found,
    but never beyond the reach (mm).
    """
    offsets, lengths, reach_mm = _ball(surface.spacing_mm)
    areas, distances = surface.areas_mm2, np.full(len(surface.areas_mm2), np.inf)
    margin = offsets.max(axis=1, keepdims=True)
    # Elements outside the other's box and margin are out of reach: voxels far away cost nothing.
    low, high = (end(other.corners, axis=1, keepdims=True) for end in (np.min, np.max))
    pending = _inside(surface.corners, low - margin, high + margin)
    if not len(pending):
        return distances, reach_mm
    mine = surface.corners[:, pending]
    low = np.maximum(low, np.min(mine, axis=1, keepdims=True) - margin)
    high = np.minimum(high, np.max(mine, axis=1, keepdims=True) + margin)
    theirs = other.corners[:, _inside(other.corners, low, high)]

    # The places of both, and two margins so that no offset wraps into the next row.
    shape = tuple((high - low + 1 + 4 * margin).ravel())
    occupied = np.zeros(np.prod(shape), bool)
    occupied[np.ravel_multi_index(tuple(theirs - low + 2 * margin), shape)] = True
    places = np.ravel_multi_index(tuple(mine - low + 2 * margin), shape)
    # What may stay without a distance; negative if too much is out of reach.
    spare = areas[pending].sum() - SHARE * areas.sum()
    steps = np.array([shape[1] * shape[2], shape[2], 1]) @ offsets
    for step, length in zip(steps, lengths, strict=True):
        if length > tolerance_mm and (spare < 0 or areas[pending].sum() < spare):
            break
        hit = occupied[places + step]
        distances[pending[hit]] = length
        pending, places = pending[~hit], places[~hit]
    return distances, reach_mm


@cache
def _ball(spacing_mm: Spacing) -> tuple[np.ndarray, np.ndarray, float]:
    """Offsets (3, n) between corners, nearest first, their lengths, and the ball's radius.

    These are all offsets within the radius, in mm, of a ball as large as `_OFFSETS` voxels.
    """
    radius = float((0.75 / np.pi * _OFFSETS * np.prod(spacing_mm)) ** (1 / 3))
    # One more than the quotient, lest its rounding lose an offset; lengths decide below.
    reach = [int(radius / step) + 1 for step in spacing_mm]
    grid = np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij")
    offsets = np.stack(grid).reshape(3, -1)
    lengths = _length(offsets, spacing_mm)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= radius]
    return offsets[:, order], lengths[order], radius


def _far_percentile(surface: Surface, other: Surface, distances: np.ndarray) -> float:
    """The percentile where it is the distance of an element that has none (inf) yet.

    One query a cell bounds the distances of all elements in it: the element nearest to the cell's
    center is a way to the surface for them too, and none is nearer than the center's distance less
    the way to the center. The percentile lies between those of the bounds, and only elements that
    may lie there as well ask for their own distance.
    """
    far = np.flatnonzero(np.isinf(distances))
    corners = surface.corners[:, far]
    points_mm = corners.T * surface.spacing_mm
    cells = np.floor(points_mm / _CELL_MM).astype(int).T
    shape = tuple(cells.max(axis=1) + 1)
    cells, cell_of = np.unique(np.ravel_multi_index(tuple(cells), shape), return_inverse=True)
    centers_mm = (np.transpose(np.unravel_index(cells, shape)) + 0.5) * _CELL_MM
    centered_mm, nearest = map(np.asarray, other.tree.query(centers_mm))
    aside_mm = np.linalg.norm(points_mm - centers_mm[cell_of], axis=1)
    low, high = distances.copy(), distances.copy()
    low[far] = centered_mm[cell_of] - aside_mm - _ROUNDING_MM
    high[far] = _length(corners - other.corners[:, nearest[cell_of]], surface.spacing_mm)
    least, most = (_percentile(bound, surface.areas_mm2) for bound in (low, high))
    far = far[(low[far] <= most) & (high[far] >= least)]
    low[far] = _ask_tree(surface.corners[:, far], other)
    return _percentile(low, surface.areas_mm2)


def _ask_tree(corners: np.ndarray, other: Surface) -> np.ndarray:
    """Distances (mm) of corners (3, n) to the nearest element of a surface."""
    _, nearest = other.tree.query(corners.T * other.spacing_mm)
    return _length(corners - other.corners[:, nearest], other.spacing_mm)


def _length(offsets: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Lengths (mm) of offsets (3, n); rounded as in SciPy's distance map, so that ties are ties."""
    return np.sqrt(np.sum((offsets * np.array(spacing_mm)[:, None]) ** 2, axis=0))


def _inside(corners: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which corners (3, n) lie in the box from low to high (3, 1), both included."""
    return np.flatnonzero(np.all((corners >= low) & (corners <= high), axis=0))


def _percentile(distances: np.ndarray, areas: np.ndarray) -> float:
    """The least distance within which `SHARE` of the area lies."""
    order = np.argsort(distances)
    shares = np.cumsum(areas[order]) / areas.sum()
    place = int(np.searchsorted(shares, SHARE))
    return float(distances[order[min(place, len(order) - 1)]])
