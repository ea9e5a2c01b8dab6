"""Scores of a folder of predictions against a KiTS folder: cases in parallel processes."""

from collections.abc import Collection, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kitsjax.data.annotation_samples import draw_samples, write_samples
from kitsjax.data.instances import Instance, count_instances, read_instances
from kitsjax.data.kits import Case
from kitsjax.data.paint_instances import majority_label
from kitsjax.errors import InputError
from kitsjax.evaluate.lesions import find_lesions
from kitsjax.evaluate.results import Evaluation, Failure, Lesion, Score
from kitsjax.evaluate.scoring import ClassScore, measure_label, score_case, score_samples
from kitsjax.image.read_nifti import read_label
from kitsjax.image.volume import Volume, check_same_grid
from kitsjax.labels import CLASSES, FOREGROUND, INDIVIDUAL, MAJORITY
from kitsjax.parallel import map_cases

BOTH = (MAJORITY, INDIVIDUAL)

PROBABILITIES = "_probabilities"
"""End of the names of files beside the masks that are not masks."""

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
    others: Collection[str] = (),
    progress: bool = True,
) -> Evaluation:
    """Score native-space predictions of cases, with a progress bar.

    Against MAJORITY a case is scored with its own majority label, made from its annotations where
    that file is missing; against INDIVIDUAL with its official annotation samples. A case of KiTS23
    or KiTS19, which has one label only, is scored against that one as MAJORITY.

    Args:
        cases: those that are to be scored; of one without any truth only a prediction is amiss.
        predictions: folder of <case id>.nii.gz (or .nii), label maps on their cases' grids.
        against: MAJORITY, INDIVIDUAL or both.
        workers: processes; 1 scores in this one, 0 starts one a core.
        samples_folder: where to write the samples as files, <case id>/group_0/...; None: nowhere.
        others: ids of cases that are not to be scored; their predictions are passed over.
        progress: show the bar.

    Returns:
        An Evaluation in the order of the case ids. A missing, unreadable or misplaced file fails
        its case alone, as does a prediction of a case that is not among `cases`.

    Raises:
        InputError: no such folder of predictions, or none in it.
    """
    folder = Path(predictions)
    files = find_predictions(folder)
    known = {case.case_id for case in cases}
    failures = [
        Failure(
            case_id,
            f"{paths[0]}: there is no case of that name in the data set; name it <case id>.nii.gz, "
            "or move it away",
        )
        for case_id, paths in files.items()
        if case_id not in known and case_id not in others
    ]
    jobs = []
    for case in cases:
        paths = files.get(case.case_id, [])
        if len(paths) > 1:
            message = f"{paths[0]} and {paths[1].name} are of one case; keep one of them"
            failures.append(Failure(case.case_id, message))
        elif paths:
            jobs.append((case, paths[0]))
    wanted = tuple(against)
    annotated = any(case.annotations for case in cases)
    if not annotated and MAJORITY in wanted:
        wanted = (MAJORITY,)
    work = partial(_evaluate_case, wanted, Path(samples_folder) if samples_folder else None)
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
        missing=tuple(
            case.case_id for case in cases if case.has_truth and case.case_id not in files
        ),
        predictions=str(folder.resolve()),
        dataset=str(cases[0].folder.parent.resolve()) if cases else "",
        versions={name: version(name) for name in ("kitsjax", "numpy", "scipy", "nibabel")},
    )


def find_predictions(folder: str | Path) -> dict[str, list[Path]]:
    """{name: files} of a folder's <name>.nii.gz and .nii; hidden ones and probabilities are not.

    Raises:
        InputError: no such folder, or no such file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder of predictions"
        raise InputError(f"{folder}: {what}; give the folder that predict wrote")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        for suffix in _SUFFIXES:
            name = path.name.removesuffix(suffix)
            # predict.py --probabilities writes them beside the masks.
            if name != path.name and not name.startswith(".") and not name.endswith(PROBABILITIES):
                found.setdefault(name, []).append(path)
    if not found:
        raise InputError(f"{folder}: holds no <case id>.nii.gz; give the folder that predict wrote")
    return found


def _evaluate_case(
    against: tuple[str, ...], samples_folder: Path | None, job: tuple[Case, Path]
) -> _Found:
    case, path = job
    if not case.has_truth:
        raise InputError(
            f"{case.folder}: has neither label nor annotations; add them, or move {path} away"
        )
    if case.annotations is None and INDIVIDUAL in against:
        raise InputError(
            f"{case.folder}: has no individual annotations; add them, or score against the majority"
        )
    prediction = read_label(path)
    predicted = measure_label(prediction.array, prediction.spacing_mm)
    truth = _read_majority(case, prediction)
    instances: list[Instance] = []
    if case.annotations and (INDIVIDUAL in against or truth is None):
        instances = read_instances(case.annotations, prediction.grid)
    if truth is not None and instances:
        _check_whole(case, instances, truth)
    if truth is None:
        truth = majority_label(instances, prediction.shape)
    lesions = find_lesions(case.case_id, prediction.array, truth, prediction.spacing_mm)
    found = _Found([], [], lesions)
    tumors = _count_tumors(case, lesions)
    if MAJORITY in against:
        measured = measure_label(truth, prediction.spacing_mm)
        for name, score in score_case(predicted, measured, prediction.spacing_mm).items():
            found.scores.append(Score(case.case_id, name, MAJORITY, 1, *score, tumors))
    if INDIVIDUAL in against:
        samples = draw_samples(case.number, instances)
        if samples_folder is not None:
            write_samples(samples_folder / case.case_id, instances, samples, prediction.grid)
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
    check_same_grid(prediction.grid, truth.grid)
    return truth.array


def _check_whole(case: Case, instances: Sequence[Instance], majority: np.ndarray) -> None:
    """Refuse annotations that lack every instance of a class which the majority label has."""
    kinds = {instance.kind for instance in instances}
    lost = [v for v in FOREGROUND if CLASSES[v] not in kinds and np.any(majority == v)]
    if lost:
        raise InputError(
            f"{case.annotations}: holds no {CLASSES[lost[0]]}, though {case.label.name} does; get "
            "its files again"
        )


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
