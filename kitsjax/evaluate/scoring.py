"""Score one prediction in each evaluation class, against a label map or annotation samples.

The prediction's masks and surfaces are measured once for all truths, those of a truth once for all
samples that choose the same annotations. Each mask is cropped on its own, in the volume's
coordinates, so a stray voxel of the prediction enlarges no other mask.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kitsjax.data.paint_instances import choose_painted
from kitsjax.evaluate.metrics import compare_surfaces, dice
from kitsjax.evaluate.surfaces import Block, Mask, Surface, cut_blocks, find_surface
from kitsjax.labels import EvaluationClass, LabelScheme
from kitsjax.types import Index, Spacing

if TYPE_CHECKING:
    from kitsjax.data.annotation_samples import Sample
    from kitsjax.data.instances import Instance


class ClassScore(NamedTuple):
    """How well a prediction fits one truth in one evaluation class.

    "Empty" means that a mask has no voxel of the class.

    Attributes:
        dice: Volumetric Dice 2 |P and T| / (|P| + |T|), 0..1; 1 if both masks are empty, 0 if
            exactly one is.
        surface_dice: Share of both surfaces' area that lies within the class's tolerance (about
            1 mm, see `labels.EvaluationClass`) of the other surface, 0..1; 1 if both masks are
            empty, 0 if exactly one is.
        hausdorff95_mm: Robust Hausdorff distance in mm: the larger of the two distances that 95 %
            of a surface's area does not exceed; nan if either mask is empty.
        prediction_cm3: Volume of the predicted mask in cm³; 0 if it is empty.
        truth_cm3: Volume of the true mask in cm³; 0 if it is empty.
    """

    dice: float
    surface_dice: float
    hausdorff95_mm: float
    prediction_cm3: float
    truth_cm3: float


class MeasuredMask(NamedTuple):
    """A mask and its surface, all that scoring needs."""

    mask: Mask
    surface: Surface


def measure_label(
    label: np.ndarray,
    spacing_mm: Spacing,
    scheme: LabelScheme,
    ignored: np.ndarray | None = None,
) -> dict[str, MeasuredMask]:
    """Measure the mask of each evaluation class in a label map; the map itself is not kept.

    Args:
        label: Label map (z, y, x) with the values of the scheme; 0 where the truth is ignored.
        spacing_mm: Voxel edges (z, y, x).
        scheme: The label scheme.
        ignored: Boolean volume (z, y, x) from `ignored.remove_ignored`; None for none.
    """
    blocks = list(cut_blocks(label))
    return {
        each.key: _measure(
            (
                part
                for array, origin in blocks
                for part in cut_blocks(union_mask(array, each.labels), origin)
            ),
            spacing_mm,
            ignored,
        )
        for each in scheme.evaluation
    }


def measure_mask(
    mask: np.ndarray,
    spacing_mm: Spacing,
    origin: Index = (0, 0, 0),
    ignored: np.ndarray | None = None,
) -> MeasuredMask:
    """Measure one mask; the array itself is not kept.

    Args:
        mask: Boolean mask (z, y, x), part of a volume; it may be empty or have no voxels.
        spacing_mm: Voxel edges (z, y, x).
        origin: Voxel (z, y, x) of the volume at which the mask starts.
        ignored: Boolean volume (z, y, x) from `ignored.remove_ignored`; None for none.
    """
    return _measure(cut_blocks(mask, origin), spacing_mm, ignored)


def union_mask(label: np.ndarray, values: Iterable[int]) -> np.ndarray:
    """Return the boolean mask of the voxels of a label map that have one of the values."""
    # np.isin would need nine bytes for each voxel.
    mask = np.zeros(label.shape, bool)
    for value in values:
        mask |= label == value
    return mask


def score_case(
    prediction: Mapping[str, MeasuredMask],
    truth: Mapping[str, MeasuredMask],
    spacing_mm: Spacing,
    scheme: LabelScheme,
) -> dict[str, ClassScore]:
    """Score each evaluation class at its tolerance.

    Args:
        prediction: Measured mask of each class, from `measure_label`.
        truth: The same of the truth, on the same grid.
        spacing_mm: Voxel edges (z, y, x) of the grid.
        scheme: The label scheme.
    """
    return {
        each.key: score_class(each, prediction[each.key], truth[each.key], spacing_mm)
        for each in scheme.evaluation
    }


def score_samples(
    prediction: Mapping[str, MeasuredMask],
    instances: Sequence[Instance],
    samples: Sequence[Sample],
    spacing_mm: Spacing,
    scheme: LabelScheme,
    ignored: np.ndarray | None = None,
) -> list[dict[str, ClassScore]]:
    """Score a prediction against each annotation sample, in the samples' order.

    The scores are those against the samples' label maps, but no label map is painted: the mask of a
    class is the union of its instances, without what is painted over them and is of another class.

    Args:
        prediction: Measured mask of each class, from `measure_label`.
        instances: Annotated instances of the case, on the same grid.
        samples: Samples of these instances.
        spacing_mm: Voxel edges (z, y, x) of the grid.
        scheme: The label scheme, whose names are the instances' kinds.
        ignored: Boolean volume (z, y, x) from `ignored.remove_ignored`; None for none.
    """
    rows: list[dict[str, ClassScore]] = [{} for _ in samples]
    for each in scheme.evaluation:
        kinds = {scheme.names[label] for label in each.labels}
        members = choose_painted(instances, kinds)
        # Samples that choose the same annotations of these instances have the same truth.
        known: dict[tuple[int, ...], ClassScore] = {}
        for row, sample in zip(rows, samples, strict=True):
            choice = tuple(sample.choice[i] for i in members)
            if choice not in known:
                chosen = [instances[i] for i in members]
                truth = _unite(chosen, choice, kinds, spacing_mm, ignored)
                known[choice] = score_class(each, prediction[each.key], truth, spacing_mm)
            row[each.key] = known[choice]
    return rows


def score_class(
    each: EvaluationClass, prediction: MeasuredMask, truth: MeasuredMask, spacing_mm: Spacing
) -> ClassScore:
    """Score one evaluation class at its tolerance."""
    voxel_cm3 = float(np.prod(spacing_mm)) / 1000
    return ClassScore(
        dice(prediction.mask, truth.mask),
        *compare_surfaces(prediction.surface, truth.surface, each.tolerance_mm),
        prediction.mask.voxels * voxel_cm3,
        truth.mask.voxels * voxel_cm3,
    )


def _measure(
    blocks: Iterable[Block], spacing_mm: Spacing, ignored: np.ndarray | None = None
) -> MeasuredMask:
    mask = Mask(tuple(blocks))
    return MeasuredMask(mask, find_surface(mask, spacing_mm, ignored))


def _unite(
    instances: Sequence[Instance],
    choice: Sequence[int],
    kinds: Container[str],
    spacing_mm: Spacing,
    ignored: np.ndarray | None,
) -> MeasuredMask:
    """Measure the union of the annotations chosen for some kinds, but for ignored voxels.

    Instances of other kinds are taken out of what was painted before them.
    """
    # An instance whose annotations are all empty stands at voxel 0 and would widen the box to it.
    drawn = [
        (instance.region, instance.masks[annotation], instance.kind in kinds)
        for instance, annotation in zip(instances, choice, strict=True)
        if instance.masks.size
    ]
    if not drawn:
        return measure_mask(np.zeros((0, 0, 0), bool), spacing_mm)
    low = np.min([[side.start for side in region] for region, _, _ in drawn], axis=0)
    high = np.max([[side.stop for side in region] for region, _, _ in drawn], axis=0)
    union = np.zeros(high - low, bool)
    for region, mask, belongs in drawn:
        inside = (slice(s.start - x, s.stop - x) for s, x in zip(region, low, strict=True))
        union[tuple(inside)][mask] = belongs
    z, y, x = low.tolist()
    if ignored is not None:
        union &= ~ignored[tuple(map(slice, low, high))]
    return measure_mask(union, spacing_mm, (z, y, x), ignored)
