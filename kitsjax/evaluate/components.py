"""Connected components of tumors and cysts: voxels that touch by a face, an edge or a corner.

Components are found among a list of voxels instead of in a volume, so a stray voxel far from the
kidneys costs one voxel. NumPy joins neighboring runs of voxels, a SciPy graph does the rest.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kitsjax.labels import CYST, TUMOR
from kitsjax.types import Shape

Voxels = tuple[np.ndarray, ...]
"""Indices z, y and x of a list of voxels, each (n,), in C order."""


class Components(NamedTuple):
    """Components of a label map: tumors, then cysts, each by falling size.

    Attributes:
        labels: (components,) label value, TUMOR or CYST.
        sizes: (components,) number of voxels.
        slices: (components,) axial slice with most of the component's voxels.
        of_voxel: (n,) component that each voxel belongs to; -1 for none.
    """

    labels: np.ndarray
    sizes: np.ndarray
    slices: np.ndarray
    of_voxel: np.ndarray


def find_components(
    labels: np.ndarray, voxels: Voxels, shape: Shape, min_voxels: float
) -> Components:
    """Find the components of tumor voxels and those of cyst voxels.

    Args:
        labels: (n,) label value of each listed voxel; other values than TUMOR and CYST are ignored.
        voxels: The listed voxels.
        shape: Shape (z, y, x) of the volume.
        min_voxels: Smaller components are left out.
    """
    of_voxel = np.full(len(labels), -1)
    component_labels, component_sizes = [], []
    first = 0
    for label in (TUMOR, CYST):
        here = np.flatnonzero(labels == label)
        component = _connect(tuple(axis[here] for axis in voxels), shape)
        # The stable sort leaves components of equal size in the order of their first voxels.
        sizes = np.bincount(component)
        order = np.argsort(-sizes, kind="stable")
        order = order[sizes[order] >= min_voxels]
        # Number the components that are kept by their rank.
        rank = np.full(len(sizes), -1)
        rank[order] = np.arange(first, first + len(order))
        of_voxel[here] = rank[component]
        component_labels += [label] * len(order)
        component_sizes.append(sizes[order])
        first += len(order)
    slices = _fullest_slices(of_voxel, voxels[0], shape[0], first)
    return Components(
        np.array(component_labels, int), np.concatenate(component_sizes), slices, of_voxel
    )


def _connect(voxels: Voxels, shape: Shape) -> np.ndarray:
    """Return the component (n,), from 0, of each voxel.

    Runs along x are joined instead of voxels: they are tens of times fewer.
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


def _fullest_slices(of_voxel: np.ndarray, z: np.ndarray, depth: int, components: int) -> np.ndarray:
    """Return the slice with most voxels of each component (components,); the first of equals."""
    # Count the voxels of each pair of component and slice.
    owned = of_voxel >= 0
    keys, counts = np.unique(of_voxel[owned] * depth + z[owned], return_counts=True)
    # Sort by component, then by rising count; of equal counts the first slice comes last.
    order = np.lexsort((-keys, counts, keys // depth))
    last = np.searchsorted(keys[order] // depth, np.arange(components), side="right") - 1
    return keys[order][last] % depth
