"""A volume and the grid that its voxels lie on, in canonical orientation (see `image.header`)."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import nibabel as nib
import numpy as np

from kitsjax.errors import GridError
from kitsjax.image.header import NiftiHeader, kits_header
from kitsjax.image.stored_type import BFLOAT16
from kitsjax.types import Shape, Spacing

GRID_TOLERANCE = 0.1
"""Two grids are the same if no corner of one lies further from that of the other than this part of
the smallest voxel edge: headers hold rounded numbers."""

LARGEST_EDGE_MM = 1000.0
"""No voxel of a patient is larger: such a spacing is wrong, or not in mm."""

LARGEST_TILT_DEG = 0.1
"""Axes count as perpendicular if the angles between them are within this of 90 degrees."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid of a volume's voxels: their number, their size and where they lie in the patient.

    Attributes:
        shape: number of voxels (z, y, x).
        spacing_mm: voxel edges (z, y, x): the lengths of the affine's columns.
        affine: 4x4, from index (z, y, x, 1) to RAS+ world in mm.
        header: the header of the file that the grid was read from or will be written with; None
            if there is none.
    """

    shape: Shape
    spacing_mm: Spacing
    affine: np.ndarray
    header: NiftiHeader | None = None

    @property
    def name(self) -> str:
        """The file that the grid was read from, for messages; "volume" if it came from none."""
        return (self.header and self.header.path) or "volume"

    @cached_property
    def tilt_deg(self) -> float:
        """How far the angles between the axes are from 90 degrees: 0, or a tilted gantry's."""
        axes = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        cosines = np.abs(axes.T @ axes)[np.triu_indices(3, 1)]
        return float(np.degrees(np.arcsin(np.clip(cosines.max(), 0, 1))))

    @property
    def voxel_mm3(self) -> float:
        """The volume of a voxel in mm³: of a parallelepiped if the axes are not perpendicular."""
        if self.tilt_deg <= LARGEST_TILT_DEG:
            return math.prod(self.spacing_mm)
        return float(abs(np.linalg.det(self.affine[:3, :3])))


@dataclass(frozen=True, eq=False)
class Volume:
    """A three-dimensional array and the grid that it lies on.

    Attributes:
        array: (z, y, x), C-contiguous, of the grid's shape.
        grid: where the voxels lie.
    """

    array: np.ndarray
    grid: Grid

    @property
    def shape(self) -> Shape:
        """Number of voxels (z, y, x)."""
        return self.grid.shape

    @property
    def spacing_mm(self) -> Spacing:
        """Voxel edges (z, y, x) in mm."""
        return self.grid.spacing_mm

    @property
    def affine(self) -> np.ndarray:
        """The affine, 4x4: from index (z, y, x, 1) to RAS+ world in mm."""
        return self.grid.affine

    @property
    def header(self) -> NiftiHeader | None:
        """The header of the file that the volume came from; None if it came from none."""
        return self.grid.header


def require_volume(value: object, function: str) -> None:
    """Refuse what is no volume, such as a bare array or a path.

    Args:
        value: what a function was given.
        function: its name, for the message.

    Raises:
        TypeError: The value is no volume.
    """
    if not isinstance(value, Volume):
        raise TypeError(
            f"{function} takes a volume; make it with read_volume(path) or make_volume(array, "
            "spacing_mm)"
        )


def make_volume(array: np.ndarray, spacing_mm: Sequence[float]) -> Volume:
    """Make a volume from an array whose axes (z, y, x) point inferior, posterior and left.

    The origin of the world is the center of voxel (0, 0, 0).

    Args:
        array: (z, y, x), at least one voxel.
        spacing_mm: voxel edges (z, y, x).

    Raises:
        TypeError: The array is none, or not of real numbers, or the spacing is not of numbers.
        ValueError: The array does not have three axes or holds no voxel, or the spacing is not
            three positive lengths.
    """
    check_real(array)
    check_spacing(spacing_mm)
    if np.ndim(array) != 3 or not np.size(array):
        raise ValueError(f"a volume has three axes (z, y, x) and voxels, not shape {array.shape}")
    z, y, x = (float(edge) for edge in spacing_mm)
    header = kits_header(array.shape, spacing_mm)
    depth, height, width = array.shape
    grid = Grid((depth, height, width), (z, y, x), header.affine.astype(float), header)
    return Volume(np.ascontiguousarray(array), grid)


def check_real(array: object) -> None:
    """Raise TypeError unless this is an array of real numbers."""
    kind = getattr(getattr(array, "dtype", None), "kind", None)
    if kind is None:
        raise TypeError(f"voxels come as an array (z, y, x), not as {type(array).__name__}")
    dtype = getattr(array, "dtype", None)
    if kind not in "biuf" and getattr(dtype, "name", None) != BFLOAT16:
        raise TypeError(f"voxels are real numbers, not {dtype}")


def check_spacing(spacing_mm: Sequence[float]) -> None:
    """Raise unless the spacing is three finite lengths above 0.

    Raises:
        TypeError: It is no sequence of numbers.
        ValueError: The numbers are not three, or not such lengths.
    """
    expected = "a spacing is three positive lengths (z, y, x) in mm"
    try:
        edges = [float(edge) for edge in spacing_mm]
    except (TypeError, ValueError):
        raise TypeError(f"{expected}, not {spacing_mm!r}") from None
    if len(edges) != 3 or not all(0 < edge < np.inf for edge in edges):
        raise ValueError(f"{expected}, not {spacing_mm}")


def check_same_grid(a: Grid, b: Grid) -> None:
    """Raise GridError if two grids (of image and label, prediction and truth) differ.

    The places of their voxels are compared in canonical orientation, so that files stored along
    other axes, or flipped, pass if their voxels lie at the same places in the world.

    Raises:
        GridError: The shapes differ, or a corner of one grid lies further from that of the other
            than `GRID_TOLERANCE` of the smallest voxel edge. The message names both files, the
            distance, both values, and both axis codes if they differ.
    """
    difference = _describe_difference(a, b)
    if difference is None:
        return
    codes = [axis_codes(grid) for grid in (a, b)]
    stored = "" if codes[0] == codes[1] else f" (stored as {codes[0]} and {codes[1]})"
    raise GridError(
        f"{a.name} and {b.name}: {difference} differ{stored}; give files of the same voxels"
    )


def _describe_difference(a: Grid, b: Grid) -> str | None:
    """Describe how shapes or places differ; None if the grids are the same."""
    if a.shape != b.shape:
        return f"shapes {a.shape} and {b.shape} (z, y, x)"
    distance_mm = np.linalg.norm(_corners_mm(a) - _corners_mm(b), axis=1).max()
    allowed_mm = GRID_TOLERANCE * min(*a.spacing_mm, *b.spacing_mm)
    if distance_mm <= allowed_mm:
        return None
    apart = f"voxels lie up to {distance_mm:.3g} mm apart, more than {allowed_mm:.3g} mm:"
    stretch_mm = np.subtract(a.spacing_mm, b.spacing_mm) * a.shape
    if np.abs(stretch_mm).max() > allowed_mm:
        values = f"({format_numbers(a.spacing_mm)}) and ({format_numbers(b.spacing_mm)})"
        return f"{apart} spacings {values} mm (z, y, x)"
    return f"{apart} affines {format_matrix(a.affine)} and {format_matrix(b.affine)} (mm)"


def _corners_mm(grid: Grid) -> np.ndarray:
    """Return the outer corners of a grid in the RAS+ world in mm, (8, 3)."""
    index = itertools.product(*((-0.5, n - 0.5) for n in grid.shape), (1.0,))
    return np.array(list(index)) @ grid.affine[:3].T


def axis_codes(grid: Grid) -> str:
    """Return nibabel's codes for the directions of the file's axes, such as IPL for KiTS."""
    return "".join(nib.aff2axcodes(grid.header.affine if grid.header else grid.affine))


def format_numbers(values: Sequence[float] | np.ndarray) -> str:
    """Format numbers for a message, such as "1, 2.5", to seven digits."""
    return ", ".join(f"{float(value):.7g}" for value in values)


def format_matrix(affine: np.ndarray) -> str:
    """Format the first three rows of an affine for a message, separated by semicolons."""
    return "[" + "; ".join(format_numbers(row) for row in affine[:3]) + "]"
