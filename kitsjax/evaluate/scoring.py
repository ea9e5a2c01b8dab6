"""Scores of one prediction: each evaluation class against a label map and annotation samples.

What a score needs of the prediction is measured once, and what it needs of a sample once for all
samples that choose the same annotations. Masks and surfaces are held in the volume's coordinates,
each cropped to itself, so a stray voxel of the prediction enlarges nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kitsjax.evaluate.metrics import compare_surfaces, dice
from kitsjax.evaluate.surfaces import Block, Mask, Surface, cut_blocks, find_surface
from kitsjax.image.volume import Volume, check_same_grid, check_spacing
from kitsjax.labels import CLASSES, EVALUATION_CLASSES
from kitsjax.types import Index, Spacing

if TYPE_CHECKING:
    from kitsjax.data.annotation_samples import Sample
    from kitsjax.data.instances import Instance


class ClassScore(NamedTuple):
    """How well a prediction fits one truth in one evaluation class.

    Attributes:
        dice, surface_dice: 0..1; 1 where both masks are empty, 0 where exactly one is.
        hausdorff95_mm: nan where either mask is empty.
        prediction_cm3, truth_cm3: volumes.
    """

    dice: float
    surface_dice: float
    hausdorff95_mm: float
    prediction_cm3: float
    truth_cm3: float


class Measure(NamedTuple):
    """All that scoring needs of a mask."""

    mask: Mask
    surface: Surface


def score(
    prediction: np.ndarray | Volume,
    truth: np.ndarray | Volume,
    spacing_mm: Spacing | None = None,
) -> dict[str, ClassScore]:
    """Scores of a label map against another: kidneys with masses, masses, tumors (KiTS21).

    Args:
        prediction, truth: label maps (z, y, x) with the values of `kitsjax.labels`, on one grid.
        spacing_mm: (z, y, x); None: that of the volumes.

    Raises:
        ValueError: not label maps (z, y, x) of one shape, or no spacing of theirs.
        InputError: volumes on different grids.
    """
    if isinstance(prediction, Volume) and isinstance(truth, Volume):
        check_same_grid(prediction.grid, truth.grid)
    found, true = (v.array if isinstance(v, Volume) else v for v in (prediction, truth))
    for volume in (prediction, truth):
        if spacing_mm is None and isinstance(volume, Volume):
            spacing_mm = volume.spacing_mm
    if spacing_mm is None or found.shape != true.shape:
        raise ValueError(
            f"label maps {found.shape} and {true.shape} with spacing {spacing_mm}: give two of one "
            "shape, and spacing_mm of arrays"
        )
    for label in (found, true):
        _check_label(label)
    check_spacing(spacing_mm)
    return score_case(measure_label(found, spacing_mm), measure_label(true, spacing_mm), spacing_mm)


def _check_label(label: np.ndarray) -> None:
    whole = label.ndim == 3 and label.size and label.dtype.kind in "iu"
    if not whole or label.min() < 0 or label.max() >= len(CLASSES):
        raise ValueError(
            f"a label map is (z, y, x) integers from 0 to {len(CLASSES) - 1}, not {label.dtype} "
            f"{label.shape} of other values"
        )


def measure_label(label: np.ndarray, spacing_mm: Spacing) -> dict[str, Measure]:
    """What scoring needs of a label map (z, y, x), for each evaluation class.

    Values are those of `kitsjax.labels`; the label map itself is not kept.
    """
    blocks = list(cut_blocks(label))
    return {
        name: _measure(
            (
                part
                for array, origin in blocks
                for part in cut_blocks(class_mask(array, name), origin)
            ),
            spacing_mm,
        )
        for name in EVALUATION_CLASSES
    }


def measure_mask(mask: np.ndarray, spacing_mm: Spacing, origin: Index = (0, 0, 0)) -> Measure:
    """What scoring needs of a boolean mask (z, y, x) that starts at voxel `origin` of a volume."""
    return _measure(cut_blocks(mask, origin), spacing_mm)


def class_mask(label: np.ndarray, name: str) -> np.ndarray:
    """The voxels of a label map that belong to an evaluation class, bool."""
    # np.isin would need nine bytes a voxel.
    mask = np.zeros(label.shape, bool)
    for value in EVALUATION_CLASSES[name].labels:
        mask |= label == value
    return mask


def score_case(
    prediction: Mapping[str, Measure], truth: Mapping[str, Measure], spacing_mm: Spacing
) -> dict[str, ClassScore]:
    """Scores of each evaluation class at its tolerance; both are measured on the same grid."""
    return {
        name: score_class(name, prediction[name], truth[name], spacing_mm)
        for name in EVALUATION_CLASSES
    }


def score_samples(
    prediction: Mapping[str, Measure],
    instances: Sequence[Instance],
    samples: Sequence[Sample],
    spacing_mm: Spacing,
) -> list[dict[str, ClassScore]]:
    """Scores against each annotation sample, in the samples' order.

    As `score_case` against the sample's label map, which need not be painted: whatever is painted
    later over an instance of a class belongs to that class too, so a class is the union of its
    instances.
    """
    rows: list[dict[str, ClassScore]] = [{} for _ in samples]
    for name, (labels, _) in EVALUATION_CLASSES.items():
        kinds = [CLASSES[label] for label in labels]
        members = [i for i, instance in enumerate(instances) if instance.kind in kinds]
        # Samples that choose the same annotations of these instances have the same truth.
        known: dict[tuple[int, ...], ClassScore] = {}
        for row, sample in zip(rows, samples, strict=True):
            choice = tuple(sample.choice[i] for i in members)
            if choice not in known:
                truth = _unite([instances[i] for i in members], choice, spacing_mm)
                known[choice] = score_class(name, prediction[name], truth, spacing_mm)
            row[name] = known[choice]
    return rows


def score_class(name: str, prediction: Measure, truth: Measure, spacing_mm: Spacing) -> ClassScore:
    """The scores of one evaluation class, at its tolerance."""
    tolerance_mm = EVALUATION_CLASSES[name].tolerance_mm
    voxel_cm3 = float(np.prod(spacing_mm)) / 1000
    return ClassScore(
        dice(prediction.mask, truth.mask),
        *compare_surfaces(prediction.surface, truth.surface, tolerance_mm),
        prediction.mask.voxels * voxel_cm3,
        truth.mask.voxels * voxel_cm3,
    )


def _measure(blocks: Iterable[Block], spacing_mm: Spacing) -> Measure:
    mask = Mask(tuple(blocks))
    return Measure(mask, find_surface(mask, spacing_mm))


def _unite(instances: Sequence[Instance], choice: Sequence[int], spacing_mm: Spacing) -> Measure:
    """The union of each instance's chosen annotation."""
    # An instance of which nothing was drawn stands at 0, and would widen the box to there.
    drawn = [
        (instance.region, instance.masks[annotation])
        for instance, annotation in zip(instances, choice, strict=True)
        if instance.masks.size
    ]
    if not drawn:
        return measure_mask(np.zeros((0, 0, 0), bool), spacing_mm)
    low = np.min([[side.start for side in region] for region, _ in drawn], axis=0)
    high = np.max([[side.stop for side in region] for region, _ in drawn], axis=0)
    union = np.zeros(high - low, bool)
    for region, mask in drawn:
        inside = (slice(s.start - x, s.stop - x) for s, x in zip(region, low, strict=True))
        union[tuple(inside)] |= mask
    z, y, x = low.tolist()
    return measure_mask(union, spacing_mm, (z, y, x))
