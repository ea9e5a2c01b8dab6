"""A prediction scored against the majority label and 15 annotation samples, on one core."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.definition import Benchmark, Contender, Job, Measurement
from benchmarks.measure import PeakMemory, time_calls
from kitsjax.labels import KITS, TUMOR

if TYPE_CHECKING:
    from kitsjax.data.instances import Instance

SHAPE, SPACING_MM = (300, 512, 512), (1.0, 0.8, 0.8)

_ERROR_MM, _ERROR_SIGMA = 1.2, 6
"""The prediction's surface is off the label's by this standard deviation, and this error varies
smoothly, on a scale of so many voxels."""

_SHIFT = 20
"""The variant "shifted" moves the prediction by so many voxels."""

_ALL_CLASSES = KITS.evaluation_keys
_BASELINE_WORK = {
    "small": {"good": (4, _ALL_CLASSES), "shifted": (4, _ALL_CLASSES), "stray": (1, ("tumor",))},
    "full": {"good": (16, _ALL_CLASSES), "shifted": (16, _ALL_CLASSES), "stray": (1, _ALL_CLASSES)},
}
"""The baseline scores so many truths, and these classes; its time is scaled to all of them.

Each comparison costs it about the same: truths differ by a millimeter, and with a stray voxel in
the prediction the whole volume is searched, whatever the class.
"""

Scores = dict[str, tuple[float, float, float]]
"""A truth is scored by Dice, surface Dice and 95% Hausdorff distance in mm, in each class."""


def _prepare(job: Job) -> None:
    from benchmarks.inputs import choose_case
    from kitsjax.data.paint_instances import majority_label
    from kitsjax.data.stored_instances import write_instances

    case = choose_case(SPACING_MM[0], SHAPE[1])
    # The case lies in the middle of the slices.
    first = (SHAPE[0] - case.image.shape[0]) // 2
    instances = [_moved(instance, first) for instance in case.instances]
    label = majority_label(instances, SHAPE)
    np.save(job.folder / "label.npy", label)
    np.save(job.folder / "prediction.npy", make_prediction(label))
    write_instances(job.folder / "annotations", instances)


def _moved(instance: "Instance", slices: int) -> "Instance":
    z, y, x = instance.region
    return replace(instance, region=(slice(z.start + slices, z.stop + slices), y, x))


def make_prediction(label: np.ndarray) -> np.ndarray:
    """Distort a label map (z, y, x) as a network at twice the spacing would, by smooth errors.

    The result depends on the label map alone.
    """
    from scipy import ndimage

    # A margin that exceeds any error.
    box = tuple(slice(max(i.min() - 20, 0), i.max() + 21) for i in np.nonzero(label))
    crop = label[box]
    rng = np.random.default_rng(0)
    # Where each voxel's class comes from: its own position and a smooth random offset.
    sources = []
    for axis, size in enumerate(crop.shape):
        offset = rng.standard_normal(crop.shape, np.float32)
        offset = ndimage.gaussian_filter(offset, _ERROR_SIGMA)
        offset *= _ERROR_MM / SPACING_MM[axis] / offset.std()
        sources.append(offset + np.arange(size).reshape([-1 if a == axis else 1 for a in range(3)]))
    # Every second voxel of the distorted crop, twice.
    coarse = ndimage.map_coordinates(crop, [s[::2, ::2, ::2] for s in sources], order=0)
    for axis, size in enumerate(crop.shape):
        coarse = coarse.repeat(2, axis).take(np.arange(size), axis)
    prediction = np.zeros_like(label)
    prediction[box] = coarse
    return prediction


def spoil(prediction: np.ndarray, variant: str) -> np.ndarray:
    """Make the prediction of a variant: unchanged, with two far false positives, or shifted."""
    if variant == "stray":
        prediction[0, 0, 0] = prediction[-1, -1, -1] = TUMOR
    return np.roll(prediction, _SHIFT, axis=1) if variant == "shifted" else prediction


def _load(job: Job) -> tuple[np.ndarray, np.ndarray, list["Instance"]]:
    """Load the prediction of the variant, the majority label and the instances."""
    from kitsjax.data.stored_instances import load_instances

    prediction, label = (np.load(job.folder / f"{name}.npy") for name in ("prediction", "label"))
    instances = load_instances(job.folder / "annotations")
    return spoil(prediction, job.variant), label, instances


def _run_kitsjax(job: Job) -> Measurement:
    from kitsjax.data.annotation_samples import draw_samples
    from kitsjax.evaluate.scoring import measure_label, score_case, score_samples

    prediction, label, instances = _load(job)
    samples = draw_samples(0, instances)
    rows: list[Scores] = []

    def work() -> None:
        measured = measure_label(prediction, SPACING_MM, KITS)
        majority = score_case(measured, measure_label(label, SPACING_MM, KITS), SPACING_MM, KITS)
        found = [majority, *score_samples(measured, instances, samples, SPACING_MM, KITS)]
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
    count, classes = _BASELINE_WORK[job.size][job.variant]
    truths = [label, *(paint_sample(instances, choice, SHAPE) for choice in choices[: count - 1])]
    rows: list[Scores] = []

    def work() -> None:
        rows[:] = [_score_officially(truth, prediction, classes) for truth in truths]

    with PeakMemory() as peak:
        # Every truth is scored from scratch, which takes long and needs no warm-up.
        seconds = time_calls(work, 1, warm_up=0, cpu=True)
    _write(job, "surface-distance", rows)
    measured, whole = count * len(classes), (1 + len(choices)) * len(_ALL_CLASSES)
    values: dict[str, float | str] = {"scaled from": f"{measured} of {whole} comparisons"}
    return Measurement(
        [s * whole / measured for s in seconds],
        peak_bytes=peak.bytes,
        values=values if measured < whole else {},
    )


def _score_officially(truth: np.ndarray, prediction: np.ndarray, classes: Sequence[str]) -> Scores:
    """Score as KiTS21's script does, with surface-distance on masks of the whole volume.

    The script has no 95% Hausdorff distance, but from its distances that costs next to nothing.
    """
    from surface_distance import metrics

    from kitsjax.evaluate.scoring import union_mask

    scores = {}
    for name in classes:
        each = KITS.find_class(name)
        true, found = (union_mask(label, each.labels) for label in (truth, prediction))
        distances = metrics.compute_surface_distances(true, found, SPACING_MM)
        scores[name] = (
            float(metrics.compute_dice_coefficient(true, found)),
            float(metrics.compute_surface_dice_at_tolerance(distances, each.tolerance_mm)),
            float(metrics.compute_robust_hausdorff(distances, 95)),
        )
    return scores


def _write(job: Job, contender: str, rows: list[Scores]) -> None:
    (job.folder / f"{job.variant}-{contender}.json").write_text(json.dumps(rows))


def _check(job: Job) -> dict[str, float]:
    ours, theirs = (
        json.loads((job.folder / f"{job.variant}-{contender}.json").read_text())
        for contender in ("kitsjax", "surface-distance")
    )
    return {
        "largest difference of a score (Dice, surface Dice, mm)": largest_difference(ours, theirs)
    }


def largest_difference(ours: list[Scores], theirs: list[Scores]) -> float:
    """Compare the scores of each truth, as far as the baseline has scored it."""
    return max(
        abs(a - b)
        for our_scores, their_scores in zip(ours, theirs, strict=False)
        for name, scores in their_scores.items()
        for a, b in zip(our_scores[name], scores, strict=True)
    )


BENCHMARK = Benchmark(
    "score",
    "one case, 300x512x512 at 1x0.8x0.8 mm, against its majority label and 15 annotation samples: "
    "Dice, surface Dice and 95% Hausdorff distance of three classes; CPU seconds",
    (
        Contender("kitsjax", _run_kitsjax),
        Contender("surface-distance", _run_surface_distance, ("surface_distance",)),
    ),
    goal={"cpu": 8, "gpu": 8},
    variants=("good", "shifted", "stray"),
    prepare=_prepare,
    check=_check,
    threads=1,
)
