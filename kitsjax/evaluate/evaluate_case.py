"""Score the prediction of one case against its majority label and its individual annotations."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kitsjax.data.annotation_samples import draw_samples, write_samples
from kitsjax.data.case import Case
from kitsjax.data.instances import Instance, check_kinds, count_instances, read_instances
from kitsjax.data.paint_instances import majority_label
from kitsjax.errors import InputError
from kitsjax.evaluate.ignored import remove_ignored
from kitsjax.evaluate.lesions import find_lesions
from kitsjax.evaluate.results import Lesion, Score
from kitsjax.evaluate.scoring import ClassScore, measure_label, score_case, score_samples
from kitsjax.image.read_nifti import read_label
from kitsjax.image.volume import LARGEST_TILT_DEG, Grid, Volume, check_same_grid
from kitsjax.labels import INDIVIDUAL, MAJORITY, LabelScheme


class CaseEvaluation(NamedTuple):
    """Scores and lesions of one case; see `results.Evaluation`."""

    scores: list[Score]
    samples: list[Score]
    lesions: list[Lesion]


def evaluate_case(
    against: Sequence[str], samples_folder: Path | None, scheme: LabelScheme, job: tuple[Case, Path]
) -> CaseEvaluation:
    """Score one case.

    Args:
        against: MAJORITY, INDIVIDUAL, or both: then a case without annotations is scored against
            its majority label alone.
        samples_folder: The annotation samples are written to a folder of the case in here; None
            writes none.
        scheme: The label scheme.
        job: The case, and the file of its predicted label map.

    Raises:
        InputError: See `read_case`.
    """
    case, path = job
    if MAJORITY in against and not case.annotations:
        against = (MAJORITY,)
    prediction, truth, instances = read_case(case, path, against, scheme)
    spacing_mm = prediction.spacing_mm
    seen, truth, ignored = remove_ignored(prediction.array, truth, scheme)
    lesions = find_lesions(case.case_id, seen, truth, prediction.grid.voxel_mm3, scheme)
    number = _count_lesions(case, lesions, scheme)
    predicted = measure_label(seen, spacing_mm, scheme, ignored)
    found = CaseEvaluation([], [], lesions)
    if MAJORITY in against:
        true = measure_label(truth, spacing_mm, scheme, ignored)
        for name, score in score_case(predicted, true, spacing_mm, scheme).items():
            found.scores.append(Score(case.case_id, name, MAJORITY, 1, *score, number))
    if INDIVIDUAL in against:
        samples = draw_samples(case.seed, instances)
        if samples_folder is not None:
            write_samples(samples_folder / case.case_id, instances, samples, prediction.grid)
        by_sample = score_samples(predicted, instances, samples, spacing_mm, scheme, ignored)
        for sample, scores in zip(samples, by_sample, strict=True):
            for name, score in scores.items():
                found.samples.append(Score(case.case_id, name, sample.name, 1, *score, number))
        for name in scheme.evaluation_keys:
            mean = _mean([scores[name] for scores in by_sample])
            row = Score(case.case_id, name, INDIVIDUAL, len(samples), *mean, number)
            found.scores.append(row)
    return found


def read_case(
    case: Case, path: Path, against: Sequence[str], scheme: LabelScheme
) -> tuple[Volume, np.ndarray, list[Instance]]:
    """Read the prediction of a case, its majority label (z, y, x) and its instances.

    The instances are read if `against` has INDIVIDUAL, or if the label file is missing: the
    majority label is then made from them. Otherwise the list is empty.

    Raises:
        InputError: The case has no truth of the kinds asked for, or nobody annotated any voxel of
            it; a file is unreadable, on another grid or inconsistent with the others; or the axes
            are not perpendicular.
    """
    _check_truth(case, path, against)
    prediction = read_label(path, range(len(scheme.names)))
    check_straight(prediction.grid)
    truth, instances = _read_truth(case, prediction, INDIVIDUAL in against, scheme)
    if scheme.ignore is not None and np.all(truth == scheme.ignore):
        raise InputError(
            f"{case.label}: every voxel has the value to ignore, {scheme.ignore}, so there is "
            f"nothing to score; annotate some of it, or move {path} away"
        )
    return prediction, truth, instances


def _check_truth(case: Case, path: Path, against: Sequence[str]) -> None:
    """Refuse a case that cannot be read, or has nothing to score against."""
    if case.problem:
        raise InputError(case.problem)
    if not case.has_truth:
        raise InputError(
            f"{case.place}: has neither label nor annotations; add them, or move {path} away"
        )
    if case.annotations is None and INDIVIDUAL in against:
        raise InputError(
            f"{case.place}: has no individual annotations; add them, or score against the majority"
        )


def check_straight(grid: Grid) -> None:
    """Check that a grid's axes are perpendicular, since distances between surfaces need them so.

    Raises:
        InputError: They are not.
    """
    if grid.tilt_deg > LARGEST_TILT_DEG:
        raise InputError(
            f"{grid.name}: its axes are {grid.tilt_deg:.3g} degrees off perpendicular (a tilted "
            "gantry), so surface Dice and HD95 are not computed; score it on a straightened grid "
            "(dcm2niix writes a _Tilt file)"
        )


def _read_truth(
    case: Case, prediction: Volume, individual: bool, scheme: LabelScheme
) -> tuple[np.ndarray, list[Instance]]:
    """Read the majority label (or the single label of KiTS23 and KiTS19) and the instances."""
    truth = None
    if case.has_label:
        label = read_label(case.label, scheme.values)
        check_same_grid(prediction.grid, label.grid)
        truth = label.array
    instances: list[Instance] = []
    if case.annotations and (individual or truth is None):
        instances = read_instances(case.annotations, prediction.grid)
    if truth is None:
        return majority_label(instances, prediction.shape), instances
    if case.annotations and instances:
        present = (scheme.names[v] for v in scheme.foreground if np.any(truth == v))
        check_kinds(case.annotations, instances, present, case.label)
    return truth, instances


def _count_lesions(case: Case, lesions: Sequence[Lesion], scheme: LabelScheme) -> int:
    """Count the annotated lesions of the first lesion label, or else the connected true ones.

    The annotations come first because a majority vote may split a lesion.
    """
    if not scheme.lesions:
        return 0
    first = scheme.names[scheme.lesions[0]]
    if case.annotations:
        return count_instances(case.annotations)[first]
    return sum(lesion.source == "truth" and lesion.label == first for lesion in lesions)


def _mean(scores: Sequence[ClassScore]) -> ClassScore:
    """Average scores over samples; each field over the samples where it is not nan."""
    table = np.array(scores)
    defined = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        return ClassScore(*(np.where(defined, table, 0).sum(axis=0) / defined.sum(axis=0)).tolist())
