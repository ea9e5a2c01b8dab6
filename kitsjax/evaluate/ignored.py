"""Voxels whose truth nobody knows, and how scores leave them out.

A label scheme may have a value `ignore` for the voxels of the truth that nobody annotated:

- They are removed from both label maps before anything is measured, so they count in no Dice, no
  volume and no lesion, as in nnU-Net.
- Removing them cuts masks at the border of an ignored region. A surface element with an ignored
  voxel among the eight around it is therefore not measured: its area counts neither as close nor as
  far. It stays in place, so that the other surface's elements may still be close to it: where one
  mask ends at the region and the other one shortly before it, they are as far apart as can be seen.
"""

import numpy as np

from kitsjax.labels import BACKGROUND, LabelScheme


def remove_ignored(
    prediction: np.ndarray, truth: np.ndarray, scheme: LabelScheme
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Make the voxels that the truth ignores background, in copies of both label maps.

    Args:
        prediction: Predicted label map (z, y, x).
        truth: True label map of the same shape, which may hold `scheme.ignore`.
        scheme: The label scheme.

    Returns:
        Prediction, truth, and a boolean volume that is True at the ignored voxels. Without any
        these are the label maps as they were given, and None.
    """
    if scheme.ignore is None:
        return prediction, truth, None
    ignored = truth == scheme.ignore
    if not ignored.any():
        return prediction, truth, None
    seen, true = (np.where(ignored, BACKGROUND, v).astype(v.dtype) for v in (prediction, truth))
    return seen, true, ignored
