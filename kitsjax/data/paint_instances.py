"""Paint the instances of a case into a label map: a choice of annotations, or their agreement.

Instances are painted in the order kidney, cyst, tumor, so that a tumor covers what it shares with a
cyst or a kidney. Annotators agree or disagree within one instance: their votes on different
instances are never added.
"""

from collections.abc import Container, Sequence

import numpy as np

from kitsjax.data.instances import Instance
from kitsjax.labels import KITS
from kitsjax.types import Shape


def paint_sample(instances: Sequence[Instance], choice: Sequence[int], shape: Shape) -> np.ndarray:
    """Paint one annotation of every instance.

    Args:
        instances: the instances of a case.
        choice: for each instance, the index (from 0) of an annotation among its masks; the choice
            of an annotation sample, for example.
        shape: (z, y, x) of the volume.

    Returns:
        The label map (z, y, x), uint8.
    """
    pairs = zip(instances, choice, strict=True)
    return _paint(instances, [instance.masks[index] for instance, index in pairs], shape)


def choose_painted(instances: Sequence[Instance], kinds: Container[str]) -> list[int]:
    """Return the instances that decide where the union of some kinds is, in painting order.

    They are those of the kinds themselves, and those of other kinds that are painted after one of
    them and so may cover it.

    Args:
        instances: the instances of a case.
        kinds: kinds of instances, such as "kidney".

    Returns:
        Indices into the instances; none if there is no instance of these kinds.
    """
    names = [KITS.names[label] for label in KITS.paint_order]
    order = [i for name in names for i, each in enumerate(instances) if each.kind == name]
    first = [at for at, i in enumerate(order) if instances[i].kind in kinds][:1]
    return order[first[0] :] if first else []


def majority_label(instances: Sequence[Instance], shape: Shape) -> np.ndarray:
    """Paint the voxels on which more than half of an instance's annotations agree.

    This is KiTS21's `aggregated_MAJ_seg.nii.gz`.

    Returns:
        The label map (z, y, x), uint8; all background if there are no instances.
    """
    return _paint_agreed(instances, [len(i.masks) // 2 + 1 for i in instances], shape)


def merge_annotations(instances: Sequence[Instance], shape: Shape) -> dict[str, np.ndarray]:
    """Paint KiTS21's three merged labels.

    Returns:
        Label maps (z, y, x), uint8: "MAJ" holds what the majority of an instance's annotators
        drew, "AND" what all of them drew, "OR" what any of them drew.
    """
    return {
        "MAJ": majority_label(instances, shape),
        "AND": _paint_agreed(instances, [len(i.masks) for i in instances], shape),
        "OR": _paint_agreed(instances, [1 for _ in instances], shape),
    }


def _paint_agreed(instances: Sequence[Instance], least: Sequence[int], shape: Shape) -> np.ndarray:
    """Paint the voxels that at least `least` annotations of an instance hold; one number each."""
    pairs = zip(instances, least, strict=True)
    return _paint(instances, [instance.masks.sum(0) >= count for instance, count in pairs], shape)


def _paint(instances: Sequence[Instance], masks: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
    """Paint one mask for each instance, given within the instance's region."""
    painted = np.zeros(shape, np.uint8)
    for label in KITS.paint_order:
        for instance, mask in zip(instances, masks, strict=True):
            if instance.kind == KITS.names[label]:
                painted[instance.region][mask] = label
    return painted
