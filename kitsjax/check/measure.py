"""Measure what a case shows: range of HU, volumes, lesions, the annotators' agreement."""

import hashlib
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from kitsjax.check.checked_case import AnnotatorFacts, ImageFacts, LabelFacts
from kitsjax.check.pictures import draw_case
from kitsjax.data.instances import Instance
from kitsjax.data.normalization import LARGEST_HU, Histogram, percentile
from kitsjax.evaluate.components import find_components
from kitsjax.evaluate.lesions import LEAST_MM3
from kitsjax.evaluate.scoring import union_mask
from kitsjax.image.volume import Volume
from kitsjax.labels import LabelScheme


def round_hu(image: Volume) -> np.ndarray:
    """Round an image to whole HU, as training stores them: (z, y, x) int16."""
    hu = np.empty(image.shape, np.int16)
    for plane, target in zip(image.array, hu, strict=True):
        target[:] = np.rint(plane.clip(-LARGEST_HU, LARGEST_HU))
    return hu


def measure_image(
    image: Volume,
    histogram: Histogram,
    label: np.ndarray | None,
    scheme: LabelScheme,
) -> ImageFacts:
    """Measure an image and draw its pictures.

    Args:
        image: CT in HU.
        histogram: of its values in whole HU, as `round_hu` gives them.
        label: label map (z, y, x) on the image's grid; None if there is none.
        scheme: its label scheme.
    """
    low, high = (percentile(histogram, percent) for percent in (0.5, 99.5))
    return ImageFacts(
        (float(histogram.hu[0]), low, high, float(histogram.hu[-1])),
        hash_voxels(image.array),
        draw_case(image, label, scheme),
    )


def hash_voxels(array: np.ndarray) -> str:
    """Hash the shape and the values of an array (z, y, x) as float32, with 0.0 for -0.0."""
    digest = hashlib.blake2b(repr(array.shape).encode(), digest_size=16)
    for plane in array:
        # The sum of -0.0 and 0 is 0.0.
        digest.update((plane.astype(np.float32, copy=False) + np.float32(0)).tobytes())
    return digest.hexdigest()


def measure_label(label: Volume, scheme: LabelScheme) -> LabelFacts:
    """Measure the volumes of the labels and of their lesions, and what is ignored.

    Lesions are connected components, as in scoring: tiny ones do not count.
    """
    array, names, voxel_cm3 = label.array, scheme.names, label.grid.voxel_mm3 / 1000
    voxels = np.nonzero(union_mask(array, scheme.lesions))
    least = LEAST_MM3 / label.grid.voxel_mm3
    found = find_components(array[voxels], voxels, label.shape, least, scheme.lesions)
    ignored = 0 if scheme.ignore is None else np.count_nonzero(array == scheme.ignore)
    return LabelFacts(
        {names[v]: float(np.count_nonzero(array == v) * voxel_cm3) for v in scheme.foreground},
        {
            names[v]: [float(n * voxel_cm3) for n in found.sizes[found.labels == v]]
            for v in scheme.lesions
        },
        float(ignored / array.size),
    )


def measure_agreement(instances: Sequence[Instance]) -> tuple[AnnotatorFacts, list[float]]:
    """Measure the agreement of the annotators: in all, and for each instance (nan for one mask)."""
    agreements = [mean_dice(instance.masks) for instance in instances]
    by_kind: dict[str, list[float]] = {}
    for instance, agreement in zip(instances, agreements, strict=True):
        if not np.isnan(agreement):
            by_kind.setdefault(instance.kind, []).append(agreement)
    numbers = {number for instance in instances for number in instance.annotation_numbers}
    means = {kind: float(np.mean(found)) for kind, found in by_kind.items()}
    return AnnotatorFacts(len(numbers), means), agreements


def mean_dice(masks: np.ndarray) -> float:
    """Return the mean Dice between two of the masks (n, z, y, x); nan for a single one.

    Two empty masks agree.
    """
    found = []
    for one, other in combinations(masks, 2):
        total = np.count_nonzero(one) + np.count_nonzero(other)
        found.append(2 * np.count_nonzero(one & other) / total if total else 1.0)
    return float(np.mean(found)) if found else np.nan
