"""Connected components of the labels that are lesions, with their sizes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kitsjax.image.connect_voxels import Voxels, connect_voxels
from kitsjax.types import Shape


class Components(NamedTuple):
    """Components of a label map: those of the first label, then of the next, each by falling size.

    Attributes:
        labels: (components,) label value.
        sizes: (components,) number of voxels.
        slices: (components,) axial slice with most of the component's voxels.
        of_voxel: (n,) component that each voxel belongs to; -1 for none.
    """

    labels: np.ndarray
    sizes: np.ndarray
    slices: np.ndarray
    of_voxel: np.ndarray


def find_components(
    labels: np.ndarray,
    voxels: Voxels,
    shape: Shape,
    min_voxels: float,
    lesions: Sequence[int],
) -> Components:
    """Find the connected components of each label that is a lesion.

    Args:
        labels: (n,) label value of each listed voxel; values that are no lesions are passed over.
        voxels: The listed voxels.
        shape: Shape (z, y, x) of the volume.
        min_voxels: Smaller components are left out.
        lesions: Label values of lesions, from `LabelScheme.lesions`.
    """
    of_voxel = np.full(len(labels), -1)
    component_labels: list[int] = []
    component_sizes = [np.zeros(0, int)]
    first = 0
    for label in lesions:
        here = np.flatnonzero(labels == label)
        component = connect_voxels(tuple(axis[here] for axis in voxels), shape)
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


def _fullest_slices(of_voxel: np.ndarray, z: np.ndarray, depth: int, components: int) -> np.ndarray:
    """Return the slice with most voxels of each component (components,); the first of equals."""
    # Count the voxels of each pair of component and slice.
    owned = of_voxel >= 0
    keys, counts = np.unique(of_voxel[owned] * depth + z[owned], return_counts=True)
    # Sort by component, then by rising count; of equal counts the first slice comes last.
    order = np.lexsort((-keys, counts, keys // depth))
    last = np.searchsorted(keys[order] // depth, np.arange(components), side="right") - 1
    return keys[order][last] % depth
