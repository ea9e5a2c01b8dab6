"""Masks cropped to their voxels, and their surfaces, in NumPy and SciPy.

Surfaces are those of DeepMind's surface-distance (Nikolov et al., 2018, arXiv:1809.04430): an
element stands at each corner where eight voxels meet that are neither all inside nor all outside
the mask. Its area is that of the marching-cubes surface between the eight voxel centers.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from kitsjax.types import Index, Spacing

# The marching-cubes surface inside a cube of eight voxel centers, for each shape of inside corners
# that edges join, up to flips and rotations: the shape's corners (z, y, x), then {direction of the
# facets' normals: their area}. Areas are in eighths, for a unit cube and a direction read as a
# vector: (0, 1, 1) with 4 has area 4/8 * sqrt(2). A test compares the 256 resulting areas with
# those of the PyPI package surface-distance.
_SHAPES = (
    ("000", {(1, 1, 1): 1}),  # a corner: a triangle
    ("000 001", {(1, 1, 0): 4}),  # an edge: a rectangle
    ("000 001 010", {(1, 0, 0): 4, (1, 1, 1): 3}),  # three of a face: a triangle, a trapezoid
    ("000 001 010 011", {(1, 0, 0): 8}),  # a face: a square
    ("000 001 010 100", {(1, 1, 1): 6}),  # a corner and its neighbors: a hexagon
    ("011 111 110 100", {(1, 1, 1): 4, (0, 1, 1): 2, (1, 0, 1): 2}),  # a path along z, x, y
)
_DIRECTIONS: list[tuple[int, ...]] = list(itertools.product((0, 1), repeat=3))[1:]

SLAB = 16
"""Number of planes of a slab. Volumes are processed slab by slab, so that the arrays stay in the
processor's cache."""


class Block(NamedTuple):
    """The part of a volume inside one slab, cropped along y and x to its non-zero voxels.

    Attributes:
        array: Voxels (z, y, x).
        origin: Voxel (z, y, x) of the volume at which the array starts.
    """

    array: np.ndarray
    origin: Index


@dataclass(frozen=True, eq=False)
class Mask:
    """A boolean mask of a volume, in blocks.

    Memory grows with the masked voxels and not with the volume: a stray voxel far away is a block
    of its own.

    Attributes:
        blocks: Boolean blocks in the order of their slabs, at most one for each slab.
    """

    blocks: tuple[Block, ...]

    @cached_property
    def voxels(self) -> int:
        """Number of voxels in the mask."""
        return sum(int(np.count_nonzero(block.array)) for block in self.blocks)

    @cached_property
    def by_slab(self) -> dict[int, Block]:
        """Block of each slab that has one. Blocks of two masks overlap only in the same slab."""
        return {block.origin[0] // SLAB: block for block in self.blocks}


@dataclass(frozen=True, eq=False)
class Surface:
    """The surface elements of a mask.

    Attributes:
        corners: Voxel corner (z, y, x) of each element, int32 (3, n), in C order. Corner (0, 0, 0)
            is the outer corner of voxel (0, 0, 0) of the volume.
        areas_mm2: Area of each element, float64 (n,); 0 for one that is not measured, because it
            touches an ignored voxel. Distances to it count all the same.
        spacing_mm: Voxel edges (z, y, x).
    """

    corners: np.ndarray
    areas_mm2: np.ndarray
    spacing_mm: Spacing

    @cached_property
    def tree(self) -> cKDTree:
        """Search tree of the elements' positions in mm, built once for all comparisons."""
        return cKDTree(self.corners.T * self.spacing_mm, balanced_tree=False, compact_nodes=False)


def cut_blocks(array: np.ndarray, origin: Index = (0, 0, 0)) -> Iterator[Block]:
    """Cut an array (z, y, x) into its non-zero blocks, one for each slab of the volume, in order.

    Blocks are copies, so the array need not be kept.

    Args:
        array: Part of a volume.
        origin: Voxel (z, y, x) of the volume at which the array starts.
    """
    z, y, x = origin
    for slab in range(z // SLAB, -(-(z + len(array)) // SLAB)):
        planes = slice(max(slab * SLAB - z, 0), (slab + 1) * SLAB - z)
        seen = np.any(array[planes], axis=0)
        rows, columns = (np.flatnonzero(np.any(seen, axis=axis)) for axis in (1, 0))
        if len(rows):
            part = array[planes, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            yield Block(part.copy(), (z + planes.start, y + int(rows[0]), x + int(columns[0])))


def find_surface(mask: Mask, spacing_mm: Spacing, ignored: np.ndarray | None = None) -> Surface:
    """Find the surface elements of a mask; none if it is empty.

    Voxels outside the volume count as background.

    Args:
        mask: The mask.
        spacing_mm: Voxel edges (z, y, x).
        ignored: Boolean volume (z, y, x), True at voxels without a known truth; None for none.
    """
    areas = _unit_areas() @ _facet_sizes(spacing_mm)
    corners, codes = [np.zeros((3, 0), np.int32)], [np.zeros(0, np.uint8)]
    for slab in sorted({slab + after for slab in mask.by_slab for after in (0, 1)}):
        # Corner plane z lies between voxel planes z - 1 and z.
        near = [mask.by_slab[i] for i in (slab - 1, slab) if i in mask.by_slab]
        cube_codes, first = _cube_codes(near, slab * SLAB)
        # No surface runs through codes 0 (all outside) and 255 (all inside, which wraps to 0).
        here = np.flatnonzero(cube_codes.ravel() + np.uint8(1) > 1)
        place = np.array(np.unravel_index(here, cube_codes.shape), np.int32)
        corners.append(place + first)
        codes.append(cube_codes.ravel()[here])
    places, sizes = np.concatenate(corners, axis=1), areas[np.concatenate(codes)]
    if ignored is not None:
        sizes[_touch(places, ignored)] = 0
    return Surface(places, sizes, spacing_mm)


def _touch(corners: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Tell which corners (3, n) have an ignored voxel among the eight around them, (n,)."""
    padded = np.pad(ignored, 1)
    around = (
        padded[tuple(corners + np.reshape(step, (3, 1)))]
        for step in itertools.product((0, 1), repeat=3)
    )
    return np.logical_or.reduce(list(around))


def _cube_codes(blocks: Sequence[Block], start: int) -> tuple[np.ndarray, np.ndarray]:
    """Encode the eight voxels around each corner of the `SLAB` corner planes from `start` on.

    Args:
        blocks: Blocks of the slab that starts at voxel plane `start` and of the slab before it, at
            least one of them.
        start: First corner plane.

    Returns:
        Codes, uint8 (SLAB, y, x), whose bit 4 * dz + 2 * dy + dx is the voxel at (dz, dy, dx), and
        the volume's corner (3, 1) at which they start.
    """
    # Paste the blocks into an array with a border of one voxel in the plane.
    low = np.min([block.origin for block in blocks], axis=0)
    high = np.max([np.add(block.origin, block.array.shape) for block in blocks], axis=0)
    padded = np.zeros((SLAB + 1, *(high - low)[1:] + 2), np.uint8)
    for array, (z, y, x) in blocks:
        # Only the last plane of the slab before is needed: the voxels just above `start`.
        skip = max(start - 1 - z, 0)
        z, y, x = z + skip - (start - 1), y - low[1] + 1, x - low[2] + 1
        planes, rows, columns = array[skip:].shape
        padded[z : z + planes, y : y + rows, x : x + columns] = array[skip:]
    # Join neighbors along x into two bits, rows of these into four, planes of these into eight.
    pairs = padded[:, :, :-1] | padded[:, :, 1:] << 1
    squares = pairs[:, :-1] | pairs[:, 1:] << 2
    first = np.array([[start], [low[1]], [low[2]]], np.int32)
    return squares[:-1] | squares[1:] << 4, first


@cache
def _unit_areas() -> np.ndarray:
    """Return the facets' area of each neighborhood code in each of `_DIRECTIONS`, (256, 7).

    Bit 4 * dz + 2 * dy + dx of a code is the voxel at (dz, dy, dx). Either the inside or the
    outside has at most four voxels; the area of a neighborhood is the sum over the parts of that
    side, each one joined by edges.
    """
    shapes = _rotated_shapes()
    areas = np.zeros((256, len(_DIRECTIONS)))
    for code in range(256):
        cube = (code >> np.arange(8) & 1).reshape(2, 2, 2)
        parts, count = ndimage.label(cube if cube.sum() <= 4 else 1 - cube)
        for part in range(1, count + 1):
            areas[code] += shapes[(parts == part).tobytes()]
    return areas


def _rotated_shapes() -> dict[bytes, np.ndarray]:
    """Return {bytes of the corners: area in each direction (7,)} of `_SHAPES` in all positions."""
    rotated = {}
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
                rotated[moved.tobytes()] = areas
    return rotated


def _facet_sizes(spacing_mm: Spacing) -> np.ndarray:
    """Return the area (7,) in mm2 of a facet of unit area in each of `_DIRECTIONS`."""
    z, y, x = spacing_mm
    return np.linalg.norm(np.array(_DIRECTIONS) * [y * x, z * x, z * y], axis=1)
