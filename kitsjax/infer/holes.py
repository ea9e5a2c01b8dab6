"""Holes of a label map: background that labeled voxels enclose."""

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from kitsjax.image.connect_voxels import FACES, Voxels, connect_voxels, shift_voxels
from kitsjax.labels import BACKGROUND, LabelScheme

_Label = UInt8[np.ndarray, "z y x"]


def fill_holes(label: _Label, voxel_mm3: float, scheme: LabelScheme, value: str) -> _Label:
    """Give each hole the label that most faces around it have; of equally many the lowest.

    A hole is a part of the background, connected by faces, that labeled voxels enclose: within its
    axial slice with `value` "slices", on all sides with "volume".
    """
    depth = int(value == "volume")
    boxes = _component_boxes(label) if depth else _slice_boxes(label)
    offsets = [offset for offset in FACES if depth or not offset[0]]
    filled = label
    for hole in itertools.chain.from_iterable(_find_holes(label, box, depth) for box in boxes):
        around = np.concatenate([label[shift_voxels(hole, o, label.shape)] for o in offsets])
        filled = label.copy(order="K") if filled is label else filled
        filled[hole] = np.bincount(around[around > BACKGROUND]).argmax()
    return filled


def _slice_boxes(label: _Label) -> Iterator[tuple[slice, ...]]:
    """Yield the box around the labeled voxels of each axial slice that has some."""
    for z, plane in enumerate(label):
        for box in ndimage.find_objects((plane > BACKGROUND).view(np.uint8)):
            yield slice(z, z + 1), *box


def _component_boxes(label: _Label) -> Iterator[tuple[slice, ...]]:
    """Yield the box around each component of labeled voxels: a hole lies within one of them."""
    voxels = np.nonzero(label)
    for part in _split(voxels, connect_voxels(voxels, label.shape)):
        yield tuple(slice(axis.min(), axis.max() + 1) for axis in part)


def _find_holes(label: _Label, box: tuple[slice, ...], depth: int) -> Iterator[Voxels]:
    """Yield the voxels of each hole in a box, outside of which is background.

    Args:
        label: the label map.
        box: slices (z, y, x).
        depth: 1; or 0 for a single slice, before and behind which nothing is looked at.
    """
    widths = ((depth, depth), (1, 1), (1, 1))
    # The first part holds the first voxel, which is outside, and all that touches the border.
    parts, _ = ndimage.label(np.pad(label[box] == BACKGROUND, widths, constant_values=True))
    voxels = np.nonzero(parts > 1)
    numbers = parts[voxels] - 2
    starts = [side.start - width for side, (width, _) in zip(box, widths, strict=True)]
    yield from _split(tuple(a + s for a, s in zip(voxels, starts, strict=True)), numbers)


def _split(voxels: Voxels, component: np.ndarray) -> Iterator[Voxels]:
    """Yield the voxels of each component, of which there may be none."""
    if len(component):
        order = np.argsort(component, kind="stable")
        for part in np.split(order, np.cumsum(np.bincount(component))[:-1]):
            yield tuple(axis[part] for axis in voxels)
