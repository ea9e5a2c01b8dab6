"""Volumetric Dice and surface Dice of two masks, exact, in NumPy and SciPy.

Surface Dice follows the definition of DeepMind's surface-distance (Nikolov et al., 2018,
arXiv:1809.04430): a mask's surface is cut into elements, one at each corner where eight voxels
meet that are neither all inside nor all outside, and an element counts when the other surface
has an element within the tolerance. A tolerance near 1 mm reaches only a handful of corners, so
they are looked up instead of computing a distance map.
"""

import itertools
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage

Spacing = tuple[float, float, float]

# The marching-cubes surface inside a cube of eight voxel centers, for each shape that inside
# corners joined by edges can take (up to mirroring and turning): the shape's corners (z, y, x),
# then {direction of the facets' normals: their area}. The area is in eighths, for a unit cube
# and a direction read as a vector (so (0, 1, 1) with 4 has area 4/8 * sqrt(2)). Tests hold the
# 256 areas that follow equal to those of the PyPI package surface-distance.
_SHAPES = (
    ("000", {(1, 1, 1): 1}),  # a corner: a triangle
    ("000 001", {(1, 1, 0): 4}),  # an edge: a rectangle
    ("000 001 010", {(1, 0, 0): 4, (1, 1, 1): 3}),  # three of a face: a triangle, a trapezoid
    ("000 001 010 011", {(1, 0, 0): 8}),  # a face: a square
    ("000 001 010 100", {(1, 1, 1): 6}),  # a corner and its neighbors: a hexagon
    ("011 111 110 100", {(1, 1, 1): 4, (0, 1, 1): 2, (1, 0, 1): 2}),  # a path along z, x, y
)
_DIRECTIONS: list[tuple[int, ...]] = list(itertools.product((0, 1), repeat=3))[1:]

_MOST_OFFSETS = 4096
"""Above this many lattice offsets (a tolerance of about 8 voxels) a distance map is computed
instead: measured on masks the size of kidneys, the two then take about the same time."""

_SLAB = 16
"""Corner planes worked on at a time, so that the arrays stay in the processor's cache."""


class Surface(NamedTuple):
    """The surface elements of a mask.

    Attributes:
        corners: (3, n) int32, the voxel corner (z, y, x) of each element, in C order; corner
            (0, 0, 0) is the outer corner of voxel (0, 0, 0).
        areas_mm2: (n,) float64, the area of each element.
    """

    corners: np.ndarray
    areas_mm2: np.ndarray


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Volumetric Dice, 2 |A and B| / (|A| + |B|), in 0..1.

    Two empty masks score 1, exactly one empty mask scores 0 (KiTS21).

    Raises:
        ValueError: the masks differ in shape.
    """
    prediction, truth = _as_masks(prediction, truth)
    total = np.count_nonzero(prediction) + np.count_nonzero(truth)
    if total == 0:
        return 1.0
    return float(2 * np.count_nonzero(prediction & truth) / total)


def surface_dice(
    prediction: np.ndarray, truth: np.ndarray, spacing_mm: Spacing, tolerance_mm: float
) -> float:
    """Share of both surfaces' area that lies within the tolerance of the other surface, in 0..1.

    Masks (z, y, x) of one shape; spacing (z, y, x). Voxels outside the array count as background.
    Two empty masks score 1, exactly one empty mask scores 0 (KiTS21).

    Raises:
        ValueError: the masks differ in shape or are not three-dimensional.
    """
    prediction, truth = _as_masks(prediction, truth)
    return surface_overlap(
        find_surface(prediction, spacing_mm),
        find_surface(truth, spacing_mm),
        spacing_mm,
        tolerance_mm,
    )


def surface_overlap(a: Surface, b: Surface, spacing_mm: Spacing, tolerance_mm: float) -> float:
    """Surface Dice of two surfaces found on the same grid; see `surface_dice`."""
    elements = len(a.areas_mm2), len(b.areas_mm2)
    if 0 in elements:
        return 1.0 if elements == (0, 0) else 0.0
    area_a = a.areas_mm2[_is_near(a.corners, b.corners, spacing_mm, tolerance_mm)].sum()
    area_b = b.areas_mm2[_is_near(b.corners, a.corners, spacing_mm, tolerance_mm)].sum()
    return float((area_a + area_b) / (a.areas_mm2.sum() + b.areas_mm2.sum()))


def find_surface(mask: np.ndarray, spacing_mm: Spacing) -> Surface:
    """The surface elements of a boolean mask (z, y, x); none for an empty mask.

    Works slab by slab, each cropped to what is in it, so that memory goes with the surface and
    not with the volume, and a stray voxel costs one slab.
    """
    areas = _unit_areas() @ _facet_sizes(spacing_mm)
    corners, codes = [np.zeros((3, 0), np.int32)], [np.zeros(0, np.uint8)]
    for start in range(0, mask.shape[0] + 1, _SLAB):
        # Corner plane z lies between voxel planes z - 1 and z.
        planes = slice(max(start - 1, 0), start + _SLAB)
        box = _outline(mask[planes])
        if box is None:
            continue
        crop = mask[planes][:, *box]
        cube_codes = _cube_codes(crop, missing=planes.start - (start - 1))
        # Adding one wraps 255 (all inside) to 0, so both plain cases fall below 2.
        here = np.flatnonzero(cube_codes.ravel() + np.uint8(1) > 1)
        place = np.array(np.unravel_index(here, cube_codes.shape), np.int32)
        corners.append(place + np.array([[start], [box[0].start], [box[1].start]], np.int32))
        codes.append(cube_codes.ravel()[here])
    return Surface(np.concatenate(corners, axis=1), areas[np.concatenate(codes)])


def bounding_box(mask: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The smallest box (z, y, x) that holds every non-zero voxel; None for an empty mask."""
    planes = np.flatnonzero(np.any(mask, axis=(1, 2)))
    if len(planes) == 0:
        return None
    depth = slice(int(planes[0]), int(planes[-1]) + 1)
    outline = _outline(mask[depth])
    return None if outline is None else (depth, *outline)


def _as_masks(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if prediction.shape != truth.shape:
        raise ValueError(f"masks differ in shape: {prediction.shape} and {truth.shape}")
    return prediction.astype(bool, copy=False), truth.astype(bool, copy=False)


def _outline(mask: np.ndarray) -> tuple[slice, slice] | None:
    """The smallest box (y, x) that holds every non-zero voxel of all planes, if there is one."""
    seen = np.any(mask, axis=0)
    rows, columns = (np.flatnonzero(np.any(seen, axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _cube_codes(crop: np.ndarray, missing: int) -> np.ndarray:
    """(_SLAB, y + 1, x + 1) uint8: the voxels around each corner, bit 4 * dz + 2 * dy + dx.

    The crop holds up to `_SLAB` + 1 voxel planes; `missing` of them lie before the volume.
    """
    planes, rows, columns = crop.shape
    padded = np.zeros((_SLAB + 1, rows + 2, columns + 2), np.uint8)
    padded[missing : missing + planes, 1:-1, 1:-1] = crop
    pairs = padded[:, :, :-1] | padded[:, :, 1:] << 1
    squares = pairs[:, :-1] | pairs[:, 1:] << 2
    return squares[:-1] | squares[1:] << 4


@cache
def _unit_areas() -> np.ndarray:
    """(256, 7): of each neighborhood code, the facets' area in each of `_DIRECTIONS`.

    Bit 4 * dz + 2 * dy + dx of a code is the voxel at (dz, dy, dx). The area of a neighborhood
    is the sum over the parts of its smaller side, inside or outside, that edges join.
    """
    shapes = _turned_shapes()
    areas = np.zeros((256, len(_DIRECTIONS)))
    for code in range(256):
        cube = (code >> np.arange(8) & 1).reshape(2, 2, 2)
        parts, count = ndimage.label(cube if cube.sum() <= 4 else 1 - cube)
        for part in range(1, count + 1):
            areas[code] += shapes[(parts == part).tobytes()]
    return areas


def _turned_shapes() -> dict[bytes, np.ndarray]:
    """Each of `_SHAPES` in all its positions: the corners' bytes -> area in each direction."""
    turned = {}
    for corners, facets in _SHAPES:
        cube = np.zeros((2, 2, 2), bool)
        for corner in corners.split():
            cube[tuple(int(i) for i in corner)] = True
        for axes in itertools.permutations(range(3)):
            areas = np.zeros(len(_DIRECTIONS))
            for direction, eighths in facets.items():
                areas[_DIRECTIONS.index(tuple(direction[axis] for axis in axes))] = eighths / 8
            for flips in itertools.product((1, -1), repeat=3):
                moved = cube.transpose(axes)[tuple(slice(None, None, flip) for flip in flips)]
                turned[moved.tobytes()] = areas
    return turned


def _facet_sizes(spacing_mm: Spacing) -> np.ndarray:
    """(7,) area in mm2 of a facet of unit area in each of `_DIRECTIONS`."""
    z, y, x = spacing_mm
    return np.linalg.norm(np.array(_DIRECTIONS) * [y * x, z * x, z * y], axis=1)


def _is_near(
    corners: np.ndarray, others: np.ndarray, spacing_mm: Spacing, tolerance_mm: float
) -> np.ndarray:
    """(n,) bool: which corners (3, n) have one of the others within the tolerance."""
    spacing = np.array(spacing_mm)[:, None]
    first = [np.min(c, axis=1, keepdims=True) for c in (corners, others)]
    last = [np.max(c, axis=1, keepdims=True) for c in (corners, others)]
    extent = np.maximum(*last) - np.minimum(*first)
    # One more than the quotient, lest its rounding lose an offset; distances decide below.
    reach = np.minimum(tolerance_mm / spacing + 1, extent).astype(np.int64)
    # Only corners in this box can be near one another, so voxels far away cost nothing.
    low, high = np.maximum(*first) - reach, np.minimum(*last) + reach
    here, there = (np.all((c >= low) & (c <= high), axis=0) for c in (corners, others))
    near = np.zeros(len(here), bool)
    if here.any() and there.any():
        corners, others, shape = corners[:, here] - low, others[:, there] - low, high - low + 1
        if np.prod(2 * reach + 1) <= _MOST_OFFSETS:
            near[here] = _look_up(corners, others, shape, reach, spacing, tolerance_mm)
        else:
            near[here] = _map_distances(corners, others, shape, spacing, tolerance_mm)
    return near


def _look_up(
    corners: np.ndarray,
    others: np.ndarray,
    shape: np.ndarray,
    reach: np.ndarray,
    spacing: np.ndarray,
    tolerance_mm: float,
) -> np.ndarray:
    """`_is_near` in a box of this shape by looking at every offset, nearest first."""
    grid = np.meshgrid(*(np.arange(-r, r + 1) for r in reach.ravel()), indexing="ij")
    offsets = np.stack(grid).reshape(3, -1)
    distances = np.sqrt(np.sum((offsets * spacing) ** 2, axis=0))
    order = np.argsort(distances, kind="stable")
    offsets = offsets[:, order[distances[order] <= tolerance_mm]]

    # A margin of `reach` on every side keeps a flat offset from wrapping into the next row.
    padded = tuple((shape + 2 * reach).ravel())
    occupied = np.zeros(np.prod(padded), bool)
    occupied[np.ravel_multi_index(tuple(others + reach), padded)] = True

    near = np.zeros(corners.shape[1], bool)
    pending = np.arange(corners.shape[1])
    places = np.ravel_multi_index(tuple(corners + reach), padded)
    for offset in np.array([padded[1] * padded[2], padded[2], 1]) @ offsets:
        hit = occupied[places + offset]
        near[pending[hit]] = True
        pending, places = pending[~hit], places[~hit]
    return near


def _map_distances(
    corners: np.ndarray,
    others: np.ndarray,
    shape: np.ndarray,
    spacing: np.ndarray,
    tolerance_mm: float,
) -> np.ndarray:
    """`_is_near` in a box of this shape by a distance map: for tolerances of many voxels."""
    free = np.ones(shape.ravel(), bool)
    free[tuple(others)] = False
    distances = ndimage.distance_transform_edt(free, sampling=spacing.ravel())
    return distances[tuple(corners)] <= tolerance_mm
