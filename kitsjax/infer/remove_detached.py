"""Remove predicted components with hardly any kidney: a renal mass is part of a kidney."""

import numpy as np
from jaxtyping import UInt8

from kitsjax.image.connect_voxels import connect_voxels
from kitsjax.labels import BACKGROUND, KIDNEY


def remove_detached(
    label: UInt8[np.ndarray, "z y x"], voxel_mm3: float, least_kidney_ml: float
) -> UInt8[np.ndarray, "z y x"]:
    """Return a label map without the components that hold too little kidney.

    A component is made of voxels of any label but the background that touch by a face, an edge or a
    corner. Most of those without kidney are other organs that were taken for a mass.

    Args:
        label: label map.
        voxel_mm3: volume of a voxel in mm³.
        least_kidney_ml: a component with less kidney than this, in ml, becomes background; with 0
            all stay.
    """
    if not least_kidney_ml:
        return label
    voxels = np.nonzero(label)
    component = connect_voxels(voxels, label.shape)
    kidney_ml = np.bincount(component, label[voxels] == KIDNEY) * voxel_mm3 / 1000
    removed = (kidney_ml < least_kidney_ml)[component]
    # In the memory order of the CT's file, as the label map was made.
    kept = label.copy(order="K")
    kept[tuple(axis[removed] for axis in voxels)] = BACKGROUND
    return kept
