"""The individual annotations of a preprocessed case: stored at working spacing, painted by patch.

They stand in for the majority label where `data.label_source` asks for an annotator or for samples,
and lie in a folder beside it:

    masks.npy       bool, flat: the masks (annotation, z, y, x) of one instance after the other
    instances.json  what they were made from, and each instance's kind, number, region, annotations
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kitsjax.data.annotations import Instance, paint_sample
from kitsjax.data.patches import read_patch
from kitsjax.data.preprocessed_case import PreprocessedCase, map_array
from kitsjax.errors import InputError
from kitsjax.files import atomic_write
from kitsjax.image.resample import resample_label
from kitsjax.labels import MAJORITY
from kitsjax.types import Shape

ANNOTATIONS = "annotations"
"""Their folder within that of the preprocessed case."""


def resample_instance(instance: Instance, shape: Shape, new_shape: Shape) -> Instance:
    """An instance of a volume of `shape`, of the same volume resampled to `new_shape`.

    By nearest neighbor as `resample_label` has it, voxel for voxel: painting resampled instances
    is resampling the painted ones. An instance that falls between large voxels keeps its place in
    the list, with a region of no voxel.
    """
    region, masks = [], instance.masks
    for axis, span in enumerate(instance.region):
        # The rule is that function's own: resampled voxel numbers tell which voxels it takes.
        line = np.arange(shape[axis]).reshape(-1, 1, 1)
        taken = resample_label(line, (new_shape[axis], 1, 1)).ravel()
        low, high = (int(i) for i in np.searchsorted(taken, (span.start, span.stop)))
        region.append(slice(low, high))
        masks = masks.take(taken[low:high] - span.start, axis=1 + axis)
    z, y, x = region
    return Instance(instance.kind, instance.number, (z, y, x), masks, instance.annotations)


def write_instances(folder: Path, instances: Sequence[Instance], inputs: Any) -> None:
    """Write instances as the folder that `load_instances` reads, whole or not at all.

    Args:
        inputs: what they were made from, kept as JSON under "inputs".

    Raises:
        InputError: the folder cannot be written.
    """
    described = [
        {
            "kind": instance.kind,
            "number": instance.number,
            "region": [[span.start, span.stop] for span in instance.region],
            "annotations": instance.annotations or range(1, len(instance.masks) + 1),
        }
        for instance in instances
    ]
    masks = [np.zeros(0, bool), *(instance.masks.ravel() for instance in instances)]
    with atomic_write(folder) as beside:
        beside.mkdir()
        np.save(beside / "masks.npy", np.concatenate(masks))
        text = json.dumps({"inputs": inputs, "instances": described}, indent=1, default=list)
        (beside / "instances.json").write_text(text)


def load_instances(folder: Path) -> list[Instance]:
    """The instances that `write_instances` wrote, in their order; masks stay on disk until read.

    Raises:
        InputError: there are none.
    """
    try:
        described = json.loads((folder / "instances.json").read_text())["instances"]
        voxels = map_array(folder / "masks.npy")
    except FileNotFoundError:
        raise InputError(
            f"{folder}: no such annotations; preprocess with this run's data.label_source"
        ) from None
    instances, end = [], 0
    for one in described:
        z, y, x = (slice(low, high) for low, high in one["region"])
        shape = (len(one["annotations"]), *(span.stop - span.start for span in (z, y, x)))
        begin, end = end, end + int(np.prod(shape))
        masks = voxels[begin:end].reshape(shape)
        instances.append(
            Instance(one["kind"], one["number"], (z, y, x), masks, tuple(one["annotations"]))
        )
    return instances


def read_label_patch(
    case: PreprocessedCase, source: str, start: Shape, shape: Shape, rng: np.random.Generator
) -> np.ndarray:
    """The patch (z, y, x) at `start` of the label that a label source gives a case, uint8.

    Background outside the volume. Only "sample" draws from `rng`.

    Raises:
        InputError: the case was preprocessed without the annotations that the source asks for.
    """
    if source == MAJORITY:
        return read_patch(case.label(), start, shape)
    instances = load_instances(case.folder / ANNOTATIONS)
    return paint_patch(instances, choose_annotations(instances, source, rng), start, shape)


def choose_annotations(
    instances: Sequence[Instance], source: str, rng: np.random.Generator
) -> tuple[int, ...]:
    """Of each instance the index (from 0) of the annotation that a label source takes.

    "annotator_2" takes annotation 2, by the number in its file's name; an instance that lacks it
    takes annotation (2 - 1) mod (number of its annotations), going round as the official samples
    do. "sample" draws each instance's annotation uniformly and apart from the others', as any one
    of KiTS21's samples is drawn.

    Args:
        source: `data.label_source`, but not the majority.
    """
    if source == "sample":
        return tuple(int(rng.integers(len(instance.masks))) for instance in instances)
    number = int(source.removeprefix("annotator_"))
    return tuple(
        instance.annotations.index(number)
        if number in instance.annotations
        else (number - 1) % len(instance.masks)
        for instance in instances
    )


def paint_patch(
    instances: Sequence[Instance], choice: Sequence[int], start: Shape, shape: Shape
) -> np.ndarray:
    """The patch (z, y, x) at `start` of the label map of a choice of annotations, uint8.

    What `read_patch` reads of the whole volume's label map, which is never painted; only voxels
    of the patch are read. Background outside the volume.
    """
    return paint_sample([_within(i, start, shape) for i in instances], choice, shape)


def _within(instance: Instance, start: Shape, shape: Shape) -> Instance:
    """The part of an instance that lies in a patch, in the patch's voxels; may be of none."""
    region, crop = [], []
    for span, first, size in zip(instance.region, start, shape, strict=True):
        low, high = (min(max(edge - first, 0), size) for edge in (span.start, span.stop))
        region.append(slice(low, high))
        crop.append(slice(low + first - span.start, high + first - span.start))
    z, y, x = region
    masks = instance.masks[(slice(None), *crop)]
    return Instance(instance.kind, instance.number, (z, y, x), masks, instance.annotations)
