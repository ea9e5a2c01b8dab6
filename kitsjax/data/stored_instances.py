"""Instances of a preprocessed case: resampled to its grid, stored, and read by memory mapping.

They lie in a folder of the preprocessed case:

    masks.npy       bool, flat: the masks (annotation, z, y, x) of one instance after the other
    instances.json  each instance's kind, number, region, annotations
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kitsjax.data.instances import Instance
from kitsjax.data.stored_arrays import describe_arrays, map_stored, read_stored
from kitsjax.files import move_new, temporary_beside
from kitsjax.image.resample import resample_nearest
from kitsjax.types import Shape

INSTANCES_FOLDER = "annotations"
"""How the names of folders of instances in the folder of a preprocessed case begin."""

INSTANCES_RECORD = "instances.json"
"""Name of the file in that folder that describes the instances."""


def resample_instance(instance: Instance, shape: Shape, new_shape: Shape) -> Instance:
    """Resample an instance of a volume of `shape` to the same volume with `new_shape` voxels.

    Each voxel is the nearest neighbor that `resample_nearest` takes, so that painting resampled
    instances gives the same label map as painting the instances and resampling the label map. An
    instance that falls between large voxels stays in the list, with a region of no voxels.
    """
    region, masks = [], instance.masks
    for axis, span in enumerate(instance.region):
        # The voxel of the old grid that each voxel of the new one takes: resampled voxel numbers
        # tell, whatever the rule of that function is.
        line = np.arange(shape[axis]).reshape(-1, 1, 1)
        taken = resample_nearest(line, (new_shape[axis], 1, 1)).ravel()
        # The new voxels that take one within the region.
        low, high = (int(i) for i in np.searchsorted(taken, (span.start, span.stop)))
        region.append(slice(low, high))
        masks = masks.take(taken[low:high] - span.start, axis=1 + axis)
    z, y, x = region
    return Instance(instance.kind, instance.number, (z, y, x), masks, instance.annotations)


def write_instances(folder: Path, instances: Sequence[Instance]) -> bool:
    """Write instances of one case, on its grid, into a folder that `load_instances` reads.

    The folder is written atomically. If another process wrote it meanwhile, that one stays.

    Returns:
        Whether it is this call's folder that is there.

    Raises:
        InputError: The folder cannot be written.
    """
    described = [
        {
            "kind": instance.kind,
            "number": instance.number,
            "region": [[span.start, span.stop] for span in instance.region],
            "annotations": instance.annotation_numbers,
        }
        for instance in instances
    ]
    masks = [np.zeros(0, bool), *(instance.masks.ravel() for instance in instances)]
    with temporary_beside(folder) as temporary:
        temporary.mkdir()
        np.save(temporary / "masks.npy", np.concatenate(masks))
        record = {"instances": described, **describe_arrays(temporary)}
        text = json.dumps(record, indent=1)
        (temporary / INSTANCES_RECORD).write_text(text)
        return move_new(temporary, folder)


def load_instances(folder: Path) -> list[Instance]:
    """Load the instances that `write_instances` wrote, in their order.

    Their masks are memory-mapped and stay on disk until they are read.

    Raises:
        InputError: The folder or one of its files is missing or damaged.
    """
    voxels = map_stored(folder / INSTANCES_RECORD, "masks.npy")
    instances, end = [], 0
    for one in read_stored(folder / INSTANCES_RECORD, "instances"):
        z, y, x = (slice(low, high) for low, high in one["region"])
        shape = (len(one["annotations"]), *(span.stop - span.start for span in (z, y, x)))
        begin, end = end, end + int(np.prod(shape))
        masks = voxels[begin:end].reshape(shape)
        instances.append(
            Instance(one["kind"], one["number"], (z, y, x), masks, tuple(one["annotations"]))
        )
    return instances
