"""Remove predicted components with hardly any organ: a lesion is part of its organ."""

import numpy as np
from jaxtyping import UInt8

from kitsjax.image.connect_voxels import connect_voxels
from kitsjax.labels import BACKGROUND, LabelScheme


def remove_detached(
    label: UInt8[np.ndarray, "z y x"], voxel_mm3: float, least_ml: float, scheme: LabelScheme
) -> UInt8[np.ndarray, "z y x"]:
    """Return a label map without the components that hold too little of the organ.

    The organ is the scheme's first label, if the scheme has lesions: KiTS's kidney. A component is
    made of voxels of any label but the background that touch by a face, an edge or a corner. Most
    of those without kidney are other organs that were taken for a mass.

    Args:
        label: label map.
        voxel_mm3: volume of a voxel in mm³.
        least_ml: a component with less of the organ than this, in ml, becomes background; with 0,
            or without lesions, all stay.
        scheme: the labels.
    """
    if not (least_ml and scheme.lesions):
        return label
    organ = scheme.foreground[0]
    voxels = np.nonzero(label)
    component = connect_voxels(voxels, label.shape)
    organ_ml = np.bincount(component, label[voxels] == organ) * voxel_mm3 / 1000
    removed = (organ_ml < least_ml)[component]
    # In the memory order of the CT's file, as the label map was made.
    kept = label.copy(order="K")
    kept[tuple(axis[removed] for axis in voxels)] = BACKGROUND
    return kept
