"""Connected components of listed voxels: voxels that touch by a face, an edge or a corner.

Components are found among a list of voxels instead of in a volume, so a stray voxel far from the
others costs one voxel. NumPy joins neighboring runs of voxels, a SciPy graph does the rest.
"""

import itertools

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kitsjax.types import Shape

Voxels = tuple[np.ndarray, ...]
"""Indices z, y and x of a list of voxels, each (n,), in C order."""

NEIGHBORS = [offset for offset in itertools.product((-1, 0, 1), repeat=3) if any(offset)]
"""Offsets (z, y, x) of the 26 voxels that touch a voxel."""

FACES = [offset for offset in NEIGHBORS if sum(map(abs, offset)) == 1]
"""Those of the six that touch it by a face."""


def shift_voxels(voxels: Voxels, offset: tuple[int, ...], shape: Shape) -> Voxels:
    """Shift voxels, but not over the volume's edge, which leads to another of their neighbors.

    Args:
        voxels: the listed voxels.
        offset: of `NEIGHBORS`.
        shape: shape (z, y, x) of the volume.
    """
    axes = zip(voxels, offset, shape, strict=True)
    return tuple(np.clip(axis + step, 0, size - 1) for axis, step, size in axes)


def connect_voxels(voxels: Voxels, shape: Shape) -> np.ndarray:
    """Return the component (n,), from 0, of each voxel.

    Runs along x are joined instead of voxels: they are tens of times fewer.

    Args:
        voxels: the listed voxels, in C order.
        shape: shape (z, y, x) of the volume.
    """
    if not len(voxels[0]):
        return np.zeros(0, int)
    # Number all places of the volume in C order, with one empty voxel at the end of each row and
    # one empty row at the end of each plane, so that no run continues in the next row or plane.
    _, rows, columns = shape
    row, plane = columns + 1, (rows + 1) * (columns + 1)
    places = voxels[0] * plane + voxels[1] * row + voxels[2]
    # A run begins, or ends, where the next place is more than one away.
    begins = np.diff(places, prepend=-2) > 1
    starts = places[begins]
    ends = places[np.diff(places, append=places[-1] + 2) > 1]
    ones, others = [], []
    # Eight rows touch a row. Four of them are ahead; the other four see this row ahead of them.
    for ahead in (row, plane - row, plane, plane + row):
        # The runs of the row ahead that touch a run, also diagonally, follow each other. The first
        # ends no earlier than a voxel before the run's start, the last starts no later than a voxel
        # after its end.
        low = np.searchsorted(ends, starts + ahead - 1)
        count = np.searchsorted(starts, ends + ahead + 1, side="right") - low
        # List each run with each of its neighbors: low, low + 1, ... for every run in turn.
        ones.append(np.repeat(np.arange(len(starts)), count))
        others.append(np.arange(count.sum()) + np.repeat(low - np.cumsum(count) + count, count))
    # Components of the graph of runs, then of each voxel by its run.
    joined = np.concatenate(ones), np.concatenate(others)
    graph = coo_array((np.ones(len(joined[0]), bool), joined), (len(starts),) * 2)
    _, components = connected_components(graph, directed=False)
    return components[np.cumsum(begins) - 1]
