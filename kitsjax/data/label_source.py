"""Label sources: which label a patch is trained on (the setting `data.label_source`).

    majority      the majority label of the case
    annotator_2   what annotator 2 drew of every instance
    sample        one annotation of every instance, drawn anew at each visit of a case

The last two are painted from the stored instances of the preprocessed case, patch by patch.
"""

from collections.abc import Sequence

import numpy as np

from kitsjax.data.instances import Instance
from kitsjax.data.paint_instances import paint_sample
from kitsjax.data.patches import read_patch
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.data.stored_instances import load_instances
from kitsjax.errors import InputError
from kitsjax.labels import MAJORITY
from kitsjax.types import Index, Shape

_ANNOTATOR = "annotator_"


def annotator_number(source: str) -> int | None:
    """Return the number (from 1) of the annotator that a label source names, if it names one."""
    return int(source.removeprefix(_ANNOTATOR)) if source.startswith(_ANNOTATOR) else None


def read_label_patch(
    case: PreprocessedCase, source: str, start: Index, shape: Shape, rng: np.random.Generator
) -> np.ndarray:
    """Read a patch of the label that a label source gives a case.

    Args:
        case: the preprocessed case.
        source: a label source.
        start: (z, y, x) of the patch; it may overhang the volume, where it is background.
        shape: (z, y, x) of the patch.
        rng: only the source "sample" draws from it.

    Returns:
        The patch (z, y, x), uint8.

    Raises:
        InputError: The case was preprocessed without the annotations that the source needs.
    """
    if source == MAJORITY:
        return read_patch(case.label(), start, shape)
    if case.annotations is None:
        raise InputError(
            f"{case.folder}: has no annotations; preprocess with this run's data.label_source"
        )
    instances = load_instances(case.annotations)
    return paint_patch(instances, choose_annotations(instances, source, rng), start, shape)


def choose_annotations(
    instances: Sequence[Instance], source: str, rng: np.random.Generator
) -> tuple[int, ...]:
    """Choose one annotation of every instance: the index (from 0) among its masks.

    "annotator_2" chooses annotation 2, by the number in its file's name. For an instance without
    that number it chooses annotation (2 - 1) mod (number of its annotations), as the official
    annotation samples go through them in turn. "sample" draws the annotation of each instance
    uniformly and independently, which is how any one of KiTS21's samples is distributed.

    Args:
        instances: the instances of a case.
        source: a label source other than the majority.
        rng: only the source "sample" draws from it.
    """
    number = annotator_number(source)
    if number is None:
        return tuple(int(rng.integers(len(instance.masks))) for instance in instances)
    return tuple(
        instance.annotation_numbers.index(number)
        if number in instance.annotation_numbers
        else (number - 1) % len(instance.masks)
        for instance in instances
    )


def paint_patch(
    instances: Sequence[Instance], choice: Sequence[int], start: Index, shape: Shape
) -> np.ndarray:
    """Paint a patch of the label map of a choice of annotations.

    The patch is what `read_patch` would read from the label map of the whole volume, but that map
    is never painted, and only voxels of the patch are read.

    Args:
        instances: the instances of a case, which may be memory-mapped.
        choice: for each instance, the index (from 0) of an annotation among its masks.
        start: (z, y, x) of the patch; it may overhang the volume, where it is background.
        shape: (z, y, x) of the patch.

    Returns:
        The patch (z, y, x), uint8.
    """
    return paint_sample([_crop_to_patch(i, start, shape) for i in instances], choice, shape)


def _crop_to_patch(instance: Instance, start: Index, shape: Shape) -> Instance:
    """Crop an instance to a patch, with its region in the patch's voxels; it may become empty."""
    region, crop = [], []
    for span, first, size in zip(instance.region, start, shape, strict=True):
        low, high = (min(max(edge - first, 0), size) for edge in (span.start, span.stop))
        region.append(slice(low, high))
        crop.append(slice(low + first - span.start, high + first - span.start))
    z, y, x = region
    masks = instance.masks[(slice(None), *crop)]
    return Instance(instance.kind, instance.number, (z, y, x), masks, instance.annotations)
