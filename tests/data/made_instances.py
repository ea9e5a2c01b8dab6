"""Instances made in memory, for the tests of what reads, paints, stores and samples them."""

import numpy as np
from nifti_files import SHAPE

from kitsjax.data.instances import Instance

EVERYWHERE = tuple(slice(0, n) for n in SHAPE)


def instance(kind, number, masks, region=EVERYWHERE, annotations=()):
    return Instance(kind, number, region, np.asarray(masks, bool), annotations)


def of_counts(*counts):
    """Make instances of one voxel from (kind, number, how many annotations)."""
    return [instance(kind, number, np.ones((n, 1, 1, 1))) for kind, number, n in counts]


def masks_of(*boxes):
    """Make masks of the volume that are True in a box each; None gives an empty one."""
    masks = np.zeros((len(boxes), *SHAPE), bool)
    for mask, box in zip(masks, boxes, strict=True):
        if box is not None:
            mask[box] = True
    return masks


def random_instances(rng, shape):
    """Make five of two to four annotations: random dots in random boxes, one of them empty."""
    instances = []
    for number, kind in enumerate(("kidney", "kidney", "tumor", "cyst", "cyst"), 1):
        bounds = [sorted(rng.choice(n + 1, 2, replace=False)) for n in shape]
        region = tuple(slice(int(a), int(b)) for a, b in bounds)
        if number == 5:
            region = (slice(0, 0),) * 3
        size = [span.stop - span.start for span in region]
        masks = rng.random((int(rng.integers(2, 5)), *size)) < 0.6
        instances.append(Instance(kind, number, region, masks))
    return instances


def random_choice(rng, instances):
    return tuple(int(rng.integers(len(instance.masks))) for instance in instances)
