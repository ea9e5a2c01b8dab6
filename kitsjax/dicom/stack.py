"""From slices in any order to the grid of a volume, or to the reason why they are none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from kitsjax.dicom.image import Image
from kitsjax.errors import InputError
from kitsjax.image.header import NiftiHeader
from kitsjax.image.parse_header import make_grid
from kitsjax.image.volume import GRID_TOLERANCE, LARGEST_TILT_DEG, Grid, format_numbers

_LEAST_EDGE_MM = 1e-3
"""Slices are never so near to each other."""

_SAME = 1e-3
"""Directions whose components differ by less are the same: 0.06 degrees."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order, and the grid that they form.

    Attributes:
        slices: the images of each slice, from the first along the normal of the slices (the cross
            product of rows' and columns' directions). Several if a slice is there several times.
        offsets: (n, 2) column and row of the grid at which each slice begins: 0 unless the gantry
            was tilted.
        step_mm: distance of the slices along their normal.
        tilt_deg: angle between the normal and the line from slice to slice.
        grid: the grid, whose header has the axes (column, row, slice).
    """

    slices: tuple[tuple[Image, ...], ...]
    offsets: np.ndarray
    step_mm: float
    tilt_deg: float
    grid: Grid

    @property
    def straightened(self) -> bool:
        """Whether slices are moved within the grid to make its axes perpendicular."""
        return bool(self.offsets.any())


def make_stack(images: Sequence[Image], name: str) -> Stack:
    """Sort slices by position, check that they form a volume, and make its grid.

    Slices of a tilted gantry are moved along rows and columns by whole pixels, so that the grid's
    axes are perpendicular and no voxel lies further than half a pixel from its place.

    Args:
        images: the slices, at least one, in any order.
        name: the series, for messages.

    Raises:
        InputError: The slices differ in shape, pixel spacing or orientation; there is only one
            place; slices are missing, or not evenly spaced, or shifted sideways unevenly.
    """
    _check_same(images, name)
    first = images[0]
    along, down = first.directions
    normal = np.cross(along, down)
    positions = np.array([image.position_mm for image in images])
    order = np.argsort(positions @ normal, kind="stable")
    distances = (positions @ normal)[order]
    # A slice begins where the distance grows by more than rounding explains.
    gaps = np.diff(distances)
    steps = gaps[gaps > _LEAST_EDGE_MM]
    if not len(steps):
        raise InputError(f"{name}: its images lie at one place; give the whole series")
    least = max(_LEAST_EDGE_MM, GRID_TOLERANCE * float(np.median(steps)))
    begins = np.concatenate([[0], np.flatnonzero(gaps > least) + 1])
    slices = tuple(tuple(images[i] for i in part) for part in np.split(order, begins[1:]))
    places = positions[order[begins]]
    step_mm = _check_even(distances[begins], name)
    # The way of each slice along rows and columns, beyond that of the normal.
    shifts = (places - places[0]) @ np.stack([along, down], axis=1)
    _check_straight(positions, order, begins, shifts, first, name)
    tilt_deg = math.degrees(math.atan2(np.hypot(*shifts[-1]), step_mm * (len(places) - 1)))
    pixel_mm = np.array(first.spacing_mm[::-1])
    offsets = np.zeros(shifts.shape, int)
    if tilt_deg > LARGEST_TILT_DEG:
        offsets = np.rint(shifts / pixel_mm).astype(int)
        places = places[:1] + offsets.min(0) * pixel_mm @ first.directions
        offsets -= offsets.min(0)
        step = step_mm * normal
    else:
        step = (places[-1] - places[0]) / (len(places) - 1)
    lps = np.eye(4)
    lps[:3] = np.stack([along * pixel_mm[0], down * pixel_mm[1], step, places[0]], axis=1)
    rows, columns = first.shape
    shape = (columns + int(offsets[:, 0].max()), rows + int(offsets[:, 1].max()), len(slices))
    header = _make_header(shape, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps, name)
    return Stack(slices, offsets, step_mm, tilt_deg, make_grid(header))


def _check_same(images: Sequence[Image], name: str) -> None:
    """Refuse images that differ in shape, pixel spacing or orientation."""
    first = images[0]
    for what, same in {
        "orientations": [np.abs(i.directions - first.directions).max() < _SAME for i in images],
        "shapes": [i.shape == first.shape for i in images],
        "pixel spacings": [
            np.allclose(i.spacing_mm, first.spacing_mm, rtol=_SAME, atol=0) for i in images
        ],
    }.items():
        if not all(same):
            raise InputError(
                f"{name}: its images have several {what} ({sum(same)} of {len(images)} are like "
                "the first); export each as a series of its own"
            )
    if abs(first.directions[0] @ first.directions[1]) > _SAME:
        raise InputError(
            f"{name}: rows and columns of its images are not perpendicular (Image Orientation "
            f"{format_numbers(first.directions.ravel())}); export it again"
        )


def _check_even(distances: np.ndarray, name: str) -> float:
    """Return the step in mm between slices; refuse those that are missing or unevenly spaced.

    `distances` (n,) along the normal are sorted, in mm.
    """
    gaps = np.diff(distances)
    step = float(distances[-1] - distances[0]) / len(gaps)
    even = distances[0] + step * np.arange(len(distances))
    if np.abs(distances - even).max() <= GRID_TOLERANCE * step:
        return step
    usual = float(np.median(gaps))
    counts = np.rint(gaps / usual)
    if (counts >= 1).all() and np.abs(gaps - counts * usual).max() <= GRID_TOLERANCE * usual:
        at = int(np.argmax(counts))
        missing = int((counts - 1).sum())
        raise InputError(
            f"{name}: {missing} {'slice is' if missing == 1 else 'slices are'} missing: slices lie "
            f"{format_numbers([usual])} mm apart, but {format_numbers(distances[[at]])} and "
            f"{format_numbers(distances[[at + 1]])} mm along their normal follow each other; "
            "export the whole series again"
        )
    raise InputError(
        f"{name}: slices are not evenly spaced ({format_numbers([gaps.min()])} to "
        f"{format_numbers([gaps.max()])} mm apart); export an evenly spaced series"
    )


def _check_straight(
    positions: np.ndarray,
    order: np.ndarray,
    begins: np.ndarray,
    shifts: np.ndarray,
    first: Image,
    name: str,
) -> None:
    """Refuse slices that do not lie along one line, and images beside each other in a slice."""
    line = np.linspace(0, 1, len(shifts))[:, None] * shifts[-1]
    aside_mm = float(np.abs(shifts - line).max())
    place = np.repeat(begins, np.diff([*begins, len(order)]))
    beside_mm = float(np.abs(positions[order] - positions[order[place]]).max())
    if max(aside_mm, beside_mm) > min(first.spacing_mm) / 2:
        raise InputError(
            f"{name}: slices are shifted sideways unevenly, by up to "
            f"{format_numbers([max(aside_mm, beside_mm)])} mm; export the series again"
        )


def _make_header(shape: tuple[int, int, int], affine: np.ndarray, name: str) -> NiftiHeader:
    """Make the NIfTI header of a grid with the axes (column, row, slice), as converters do."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.float32)
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    header.set_xyzt_units("mm")
    return NiftiHeader(header.binaryblock, name)
