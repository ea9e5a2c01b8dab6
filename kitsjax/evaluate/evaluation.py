"""Score a folder of predictions against a data set, cases in parallel processes."""

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from kitsjax.data.case import Case
from kitsjax.errors import InputError, name_first
from kitsjax.evaluate.evaluate_case import CaseEvaluation, evaluate_case
from kitsjax.evaluate.results import Evaluation, Failure
from kitsjax.failures import describe_failure
from kitsjax.image.case_names import find_named
from kitsjax.image.file_format import PROBABILITIES, image_stem, list_images, note_passed_over
from kitsjax.input_file import check_is_folder, reading
from kitsjax.labels import INDIVIDUAL, KITS, MAJORITY, LabelScheme
from kitsjax.process_pool import map_cases

_logger = logging.getLogger(__name__)

BOTH = (MAJORITY, INDIVIDUAL)

_MOST_NAMED = 3
"""A note names at most so many cases."""

_Job = tuple[Case, Path]
"""A case and the file of its predicted label map."""


def evaluate(
    cases: Sequence[Case],
    predictions: str | Path,
    against: Sequence[str] = BOTH,
    workers: int = 0,
    samples_folder: str | Path | None = None,
    others: Collection[str] = (),
    log_folder: str | Path | None = None,
    scheme: LabelScheme = KITS,
) -> Evaluation:
    """Score native-space predictions of cases, with a progress bar.

    MAJORITY scores a case against its majority label, which is made from its annotations if the
    file is missing; INDIVIDUAL against its official annotation samples. BOTH scores a case without
    individual annotations, as all of KiTS23 and KiTS19 are, against its single label as MAJORITY;
    a note names such cases among others. So it does with other labels than KiTS's, since
    annotation samples are KiTS21's alone.

    Voxels whose true value is `scheme.ignore` count in no score; see `ignored`.

    A missing, unreadable or misplaced file fails its case alone, as does a prediction without a
    case. A note names what else is in the folder.

    Args:
        cases: The cases to score. One without any truth fails only if it has a prediction.
        predictions: Folder of label maps <case id>.nii.gz (or <case id>_0000.nii.gz, as nnU-Net
            names a CT) on the grids of their cases.
        against: MAJORITY, INDIVIDUAL or both.
        workers: Number of processes; 1 scores in this one, 0 starts one for each core.
        samples_folder: The annotation samples are written to <case id>/group_0/... in this folder;
            None writes none.
        others: Ids of cases that are not to be scored; their predictions are ignored.
        log_folder: Folder of `errors.log`, with the traceback of an unforeseen error; None: the
            folder of predictions.
        scheme: Label scheme of predictions and truth.

    Returns:
        Scores, lesions and failures in the order of the case ids.

    Raises:
        InputError: The folder of predictions is missing, or holds none; only INDIVIDUAL is asked
            for, with other labels than KiTS's; or samples are to be written and there are none.
    """
    cases, wanted = _choose_truths(cases, against, scheme)
    if samples_folder and INDIVIDUAL not in wanted:
        raise _no_samples(samples_folder, against)
    folder = Path(predictions)
    files = find_predictions(folder)
    note_passed_over(folder, list_images(folder))
    jobs, unpaired = _pair_files(cases, files, others)
    scored, failed = _score_cases(
        jobs, wanted, Path(samples_folder) if samples_folder else None, workers,
        Path(log_folder or folder), scheme,
    )  # fmt: skip
    in_order = [scored[case_id] for case_id in sorted(scored)]
    return Evaluation(
        scores=tuple(score for case in in_order for score in case.scores),
        samples=tuple(score for case in in_order for score in case.samples),
        lesions=tuple(lesion for case in in_order for lesion in case.lesions),
        failures=tuple(sorted(unpaired + failed)),
        missing=tuple(
            case.case_id
            for case in cases
            if case.has_truth and not find_named(files, case.case_id)[1]
        ),
        predictions=os.path.realpath(folder),
        dataset=os.path.realpath(cases[0].root) if cases else "",
        versions={name: version(name) for name in ("kitsjax", "numpy", "scipy", "nibabel")},
        scheme=scheme,
    )


def _choose_truths(
    cases: Sequence[Case], against: Sequence[str], scheme: LabelScheme
) -> tuple[Sequence[Case], tuple[str, ...]]:
    """Return the cases, without annotations that are not of their labels, and what truths to take.

    Raises:
        InputError: Only annotation samples are asked for, and they are not of these labels.
    """
    if not scheme.is_kits:
        if MAJORITY not in against:
            raise InputError(
                "annotation samples are made of KiTS21's labels only; score other labels against "
                "the majority"
            )
        cases = [replace(case, annotations=None) for case in cases]
    if MAJORITY in against and not any(case.annotations for case in cases):
        return cases, (MAJORITY,)
    plain = [case.case_id for case in cases if case.has_truth and not case.annotations]
    if plain and MAJORITY in against and INDIVIDUAL in against:
        _logger.warning(
            "%s: no individual annotations, so scored against the majority alone",
            name_first(plain, _MOST_NAMED),
        )
    return cases, tuple(against)


def _no_samples(folder: str | Path, against: Sequence[str]) -> InputError:
    """Say why there are no annotation samples, which a user has asked for."""
    missing = "no case has annotations of these labels"
    reason = missing if INDIVIDUAL in against else "the scores are against the majority alone"
    return InputError(
        f"{folder}: there are no annotation samples to write ({reason}); leave out --write-samples"
    )


def find_predictions(folder: str | Path) -> dict[str, list[Path]]:
    """Find the label maps of a folder, such as <name>.nii.gz, as {name in lower case: files}.

    A probability file, <name>_probabilities.nii.gz, is left out where <name> is there as well.

    Raises:
        InputError: The folder is missing, or holds no such file.
    """
    folder = Path(folder)
    advice = "give the folder that predict wrote"
    check_is_folder(folder, "no such folder of predictions", advice)
    found: dict[str, list[Path]] = {}
    with reading(folder):
        files = list_images(folder)
    for path in files:
        name = str(image_stem(path.name)).lower()
        found.setdefault(name, []).append(path)
    for name in [name for name in found if name + PROBABILITIES in found]:
        del found[name + PROBABILITIES]
    if not found:
        raise InputError(f"{folder}: holds no <case id>.nii.gz; {advice}")
    return found


def _pair_files(
    cases: Sequence[Case], files: dict[str, list[Path]], others: Collection[str]
) -> tuple[list[_Job], list[Failure]]:
    """Pair each case with its prediction; fail predictions without a case and pairs of one case."""
    ids = [*(case.case_id for case in cases), *others]
    known = {find_named(files, case_id)[0] for case_id in ids}
    failures = [
        Failure(
            case_id,
            f"{paths[0]}: there is no case of that name in the data set; name it <case id>.nii.gz, "
            "or move it away",
        )
        for case_id, paths in files.items()
        if case_id not in known
    ]
    jobs = []
    for case in cases:
        _, paths = find_named(files, case.case_id)
        if len(paths) > 1:
            message = f"{paths[0]} and {paths[1].name} are of one case; keep one of them"
            failures.append(Failure(case.case_id, message))
        elif paths:
            jobs.append((case, paths[0]))
    return jobs, failures


def _score_cases(
    jobs: Sequence[_Job],
    against: tuple[str, ...],
    samples_folder: Path | None,
    workers: int,
    log_folder: Path,
    scheme: LabelScheme,
) -> tuple[dict[str, CaseEvaluation], list[Failure]]:
    """Score cases in parallel, as {case id: result}, and list those that failed."""
    work = partial(evaluate_case, against, samples_folder, scheme)
    scored: dict[str, CaseEvaluation] = {}
    failures: list[Failure] = []
    for (case, path), result in map_cases(work, jobs, workers, "score"):
        if isinstance(result, InputError):
            message = describe_failure(result, path, log_folder)
            failures.append(Failure(case.case_id, message))
        else:
            scored[case.case_id] = result
    return scored, failures
