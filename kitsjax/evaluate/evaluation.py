"""Scores of a folder of predictions against a KiTS folder: cases in parallel processes."""

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kitsjax.data.annotations import (
    Instance,
    count_instances,
    draw_samples,
    majority_label,
    read_instances,
    write_samples,
)
from kitsjax.data.geometry import Volume, check_same_grid
from kitsjax.data.kits import Case
from kitsjax.data.volume import read_label
from kitsjax.errors import InputError
from kitsjax.evaluate.lesions import find_lesions
from kitsjax.evaluate.results import INDIVIDUAL, MAJORITY, Evaluation, Failure, Lesion, Score
from kitsjax.evaluate.scoring import ClassScore, measure_label, score_case, score_samples
from kitsjax.parallel import map_cases

BOTH = (MAJORITY, INDIVIDUAL)

_SUFFIXES = (".nii.gz", ".nii")


class _Found(NamedTuple):
    """What came of one case."""

    scores: list[Score]
    samples: list[Score]
    lesions: list[Lesion]


def evaluate(
    cases: Sequence[Case],
    predictions: str | Path,
    against: Sequence[str] = BOTH,
    workers: int = 0,
    samples_folder: str | Path | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score native-space predictions of cases, with a progress bar.

    Against MAJORITY a case is scored with its own majority label, made from its annotations where
    that file is missing; against INDIVIDUAL with its official annotation samples. A case of KiTS23
    or KiTS19, which has one label only, is scored against that one as MAJORITY.

    Args:
        cases: those that are to be scored.
        predictions: folder of <case id>.nii.gz (or .nii), label maps on their cases' grids.
        against: MAJORITY, INDIVIDUAL or both.
        workers: processes; 1 scores in this one, 0 starts one a core.
        samples_folder: where to write the samples as files, <case id>/group_0/...; None: nowhere.
        progress: show the bar.

    Returns:
        An Evaluation in the order of the case ids. A missing, unreadable or misplaced file fails
        its case alone, as does a prediction of a case that is not among `cases`.

    Raises:
        InputError: the folder of predictions does not exist.
    """
    folder = Path(predictions)
    files = find_predictions(folder)
    known = {case.case_id for case in cases}
    failures = [
        Failure(case_id, f"{path}: is of no case that is to be scored; remove it")
        for case_id, path in files.items()
        if case_id not in known
    ]
    jobs = [(case, files[case.case_id]) for case in cases if case.case_id in files]
    work = partial(_evaluate_case, tuple(against), Path(samples_folder) if samples_folder else None)
    found: dict[str, _Found] = {}
    try:
        for (case, _), result in map_cases(work, jobs, workers, "score", progress):
            if isinstance(result, InputError):
                failures.append(Failure(case.case_id, str(result)))
            else:
                found[case.case_id] = result
    except InputError as killed:
        done = found.keys() | {failure.case_id for failure in failures}
        failures += [
            Failure(case.case_id, f"{path}: {killed}")
            for case, path in jobs
            if case.case_id not in done
        ]
    in_order = [found[case_id] for case_id in sorted(found)]
    return Evaluation(
        scores=tuple(score for case in in_order for score in case.scores),
        samples=tuple(score for case in in_order for score in case.samples),
        lesions=tuple(lesion for case in in_order for lesion in case.lesions),
        failures=tuple(sorted(failures)),
        missing=tuple(sorted(known - files.keys())),
        predictions=str(folder.resolve()),
        dataset=str(cases[0].folder.parent.resolve()) if cases else "",
        versions={name: version(name) for name in ("kitsjax", "numpy", "scipy", "nibabel")},
    )


def find_predictions(folder: str | Path) -> dict[str, Path]:
    """{case id: file} of a folder of <case id>.nii.gz or .nii.

    Raises:
        InputError: no such folder, or a case in it twice.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of predictions; give the one predict wrote")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        for suffix in _SUFFIXES:
            if path.name.endswith(suffix) and not path.name.startswith("."):
                case_id = path.name.removesuffix(suffix)
                if case_id in found:
                    raise InputError(f"{path}: {case_id} is there twice; keep one of its files")
                found[case_id] = path
    return found


def _evaluate_case(
    against: tuple[str, ...], samples_folder: Path | None, job: tuple[Case, Path]
) -> _Found:
    case, path = job
    if case.annotations is None and MAJORITY not in against:
        raise InputError(
            f"{case.folder}: has no individual annotations; score it against the majority"
        )
    prediction = read_label(path)
    predicted = measure_label(prediction.array, prediction.spacing_mm)
    truth = _read_majority(case, prediction)
    instances: list[Instance] = []
    if case.annotations and (INDIVIDUAL in against or truth is None):
        instances = read_instances(case.annotations, prediction)
    if truth is None:
        truth = majority_label(instances, prediction.shape)
    lesions = find_lesions(case.case_id, prediction.array, truth, prediction.spacing_mm)
    found = _Found([], [], lesions)
    tumors = _count_tumors(case, lesions)
    if MAJORITY in against:
        measured = measure_label(truth, prediction.spacing_mm)
        for name, score in score_case(predicted, measured, prediction.spacing_mm).items():
            found.scores.append(Score(case.case_id, name, MAJORITY, 1, *score, tumors))
    if INDIVIDUAL in against and instances:
        samples = draw_samples(case.number, instances)
        if samples_folder is not None:
            write_samples(samples_folder / case.case_id, instances, samples, prediction)
        rows = score_samples(predicted, instances, samples, prediction.spacing_mm)
        for sample, row in zip(samples, rows, strict=True):
            for name, score in row.items():
                found.samples.append(Score(case.case_id, name, sample.name, 1, *score, tumors))
        for name in predicted:
            mean = _mean([row[name] for row in rows])
            found.scores.append(Score(case.case_id, name, INDIVIDUAL, len(rows), *mean, tumors))
    return found


def _read_majority(case: Case, prediction: Volume) -> np.ndarray | None:
    """The case's own majority (or single) label, if it has the file."""
    if not case.label.is_file():
        return None
    truth = read_label(case.label)
    check_same_grid(prediction, truth)
    return truth.array


def _count_tumors(case: Case, lesions: Sequence[Lesion]) -> int:
    """As annotated, since a majority vote may part a tumor; else as connected in the truth."""
    if case.annotations:
        return count_instances(case.annotations)["tumor"]
    return sum(lesion.source == "truth" and lesion.label == "tumor" for lesion in lesions)


def _mean(scores: Sequence[ClassScore]) -> ClassScore:
    """The mean over samples; of the Hausdorff distance, over those that have one."""
    table = np.array(scores)
    defined = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        return ClassScore(*(np.where(defined, table, 0).sum(axis=0) / defined.sum(axis=0)).tolist())
