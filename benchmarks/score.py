"""A prediction scored against the majority label and 15 samples of the annotations, on one core."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.part import Job, Measurement, Part, PeakMemory, Side, time_calls
from kitsjax.labels import EVALUATION_CLASSES, TUMOR

if TYPE_CHECKING:
    from kitsjax.data.instances import Instance

SHAPE, SPACING_MM = (300, 512, 512), (1.0, 0.8, 0.8)

_ERROR_MM, _ERROR_SIGMA = 1.2, 6
"""How far off the prediction's surface is, standard deviation, and in voxels how smoothly."""

_SHIFT = 20
"""Voxels that the "shifted" prediction is off."""

_WHOLE = tuple(EVALUATION_CLASSES)
_PEER = {
    "small": {"good": (4, _WHOLE), "shifted": (4, _WHOLE), "stray": (1, ("tumor",))},
    "full": {"good": (16, _WHOLE), "shifted": (16, _WHOLE), "stray": (1, _WHOLE)},
}
"""Truths and evaluation classes that the peer scores; its time is scaled to all of them. Each one
costs it much the same: truths differ by a millimeter, and a stray voxel of the prediction makes the
whole volume be searched, whatever the class."""

Rows = list[dict[str, tuple[float, float, float]]]
"""Of each truth, by evaluation class: Dice, surface Dice and 95% Hausdorff distance in mm."""


def _prepare(job: Job) -> None:
    from benchmarks.material import case_with_slices
    from kitsjax.data.paint_instances import majority_label
    from kitsjax.data.stored_instances import write_instances

    case = case_with_slices(SPACING_MM[0], SHAPE[1])
    up = (SHAPE[0] - case.image.shape[0]) // 2
    instances = [_moved(instance, up) for instance in case.instances]
    label = majority_label(instances, SHAPE)
    np.save(job.folder / "label.npy", label)
    np.save(job.folder / "prediction.npy", draw_prediction(label))
    write_instances(job.folder / "annotations", instances, [])


def _moved(instance: "Instance", slices: int) -> "Instance":
    z, y, x = instance.region
    return replace(instance, region=(slice(z.start + slices, z.stop + slices), y, x))


def draw_prediction(label: np.ndarray) -> np.ndarray:
    """A label map (z, y, x) as a network at twice the spacing would draw it: smooth small errors.

    A function of the label map alone.
    """
    from scipy import ndimage

    # With a border beyond any error.
    box = tuple(slice(max(i.min() - 20, 0), i.max() + 21) for i in np.nonzero(label))
    crop = label[box]
    rng = np.random.default_rng(0)
    moved = []
    for axis, size in enumerate(crop.shape):
        field = rng.standard_normal(crop.shape, np.float32)
        field = ndimage.gaussian_filter(field, _ERROR_SIGMA)
        field *= _ERROR_MM / SPACING_MM[axis] / field.std()
        moved.append(field + np.arange(size).reshape([-1 if a == axis else 1 for a in range(3)]))
    coarse = ndimage.map_coordinates(crop, [m[::2, ::2, ::2] for m in moved], order=0)
    for axis, size in enumerate(crop.shape):
        coarse = coarse.repeat(2, axis).take(np.arange(size), axis)
    prediction = np.zeros_like(label)
    prediction[box] = coarse
    return prediction


def spoil(prediction: np.ndarray, variant: str) -> np.ndarray:
    """The prediction of a variant: as it is ("good"), with two far false positives, or shifted."""
    if variant == "stray":
        prediction[0, 0, 0] = prediction[-1, -1, -1] = TUMOR
    return np.roll(prediction, _SHIFT, axis=1) if variant == "shifted" else prediction


def _load(job: Job) -> tuple[np.ndarray, np.ndarray, list["Instance"]]:
    """Prediction of the variant, majority label and instances."""
    from kitsjax.data.stored_instances import load_instances

    prediction, label = (np.load(job.folder / f"{name}.npy") for name in ("prediction", "label"))
    instances = load_instances(job.folder / "annotations")
    return spoil(prediction, job.variant), label, instances


def _run_kitsjax(job: Job) -> Measurement:
    from kitsjax.data.annotation_samples import draw_samples
    from kitsjax.evaluate.scoring import measure_label, score_case, score_samples

    prediction, label, instances = _load(job)
    samples = draw_samples(0, instances)
    rows: Rows = []

    def work() -> None:
        measured = measure_label(prediction, SPACING_MM)
        majority = score_case(measured, measure_label(label, SPACING_MM), SPACING_MM)
        found = [majority, *score_samples(measured, instances, samples, SPACING_MM)]
        rows[:] = [{name: score[:3] for name, score in row.items()} for row in found]

    with PeakMemory() as peak:
        seconds = time_calls(work, 3, cpu=True)
    _write(job, "kitsjax", rows)
    return Measurement(seconds, peak_bytes=peak.bytes)


def _run_surface_distance(job: Job) -> Measurement:
    from kitsjax.data.annotation_samples import draw_samples
    from kitsjax.data.paint_instances import paint_sample

    prediction, label, instances = _load(job)
    choices = [sample.choice for sample in draw_samples(0, instances)]
    count, classes = _PEER[job.size][job.variant]
    truths = [label, *(paint_sample(instances, choice, SHAPE) for choice in choices[: count - 1])]
    rows: Rows = []

    def work() -> None:
        rows[:] = [_score_officially(truth, prediction, classes) for truth in truths]

    with PeakMemory() as peak:
        # Nothing to warm up: each truth is scored anew, and it takes long.
        seconds = time_calls(work, 1, warm_up=0, cpu=True)
    _write(job, "surface-distance", rows)
    measured, whole = count * len(classes), (1 + len(choices)) * len(_WHOLE)
    values: dict[str, float | str] = {"scaled from": f"{measured} of {whole} comparisons"}
    return Measurement(
        [s * whole / measured for s in seconds],
        peak_bytes=peak.bytes,
        values=values if measured < whole else {},
    )


def _score_officially(
    truth: np.ndarray, prediction: np.ndarray, classes: Sequence[str]
) -> dict[str, tuple[float, float, float]]:
    """KiTS21's script: masks of the whole volume for each class, surface-distance on them.

    The 95% Hausdorff distance, which the script lacks, costs nothing on top.
    """
    from surface_distance import metrics

    from kitsjax.evaluate.scoring import class_mask

    row = {}
    for name in classes:
        true, found = class_mask(truth, name), class_mask(prediction, name)
        distances = metrics.compute_surface_distances(true, found, SPACING_MM)
        tolerance_mm = EVALUATION_CLASSES[name].tolerance_mm
        row[name] = (
            float(metrics.compute_dice_coefficient(true, found)),
            float(metrics.compute_surface_dice_at_tolerance(distances, tolerance_mm)),
            float(metrics.compute_robust_hausdorff(distances, 95)),
        )
    return row


def _write(job: Job, side: str, rows: Rows) -> None:
    (job.folder / f"{job.variant}-{side}.json").write_text(json.dumps(rows))


def _check(job: Job) -> dict[str, float]:
    ours, peer = (
        json.loads((job.folder / f"{job.variant}-{side}.json").read_text())
        for side in ("kitsjax", "surface-distance")
    )
    return {
        "largest difference of a score (Dice, surface Dice, mm)": largest_difference(ours, peer)
    }


def largest_difference(ours: Rows, peer: Rows) -> float:
    """Over all truths, classes and scores that the peer has."""
    return max(
        abs(a - b)
        for mine, theirs in zip(ours, peer, strict=False)
        for name, scores in theirs.items()
        for a, b in zip(mine[name], scores, strict=True)
    )


PART = Part(
    "score",
    "one case, 300x512x512 at 1x0.8x0.8 mm, against its majority label and 15 annotation samples: "
    "Dice, surface Dice and 95% Hausdorff distance of three classes; CPU seconds",
    (
        Side("kitsjax", _run_kitsjax),
        Side("surface-distance", _run_surface_distance, ("surface_distance",)),
    ),
    goal={"cpu": 8, "gpu": 8},
    variants=("good", "shifted", "stray"),
    prepare=_prepare,
    check=_check,
    threads=1,
)
