"""The post-processing of a run's models, chosen by the predictions of its held-out cases."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kitsjax.config import choose_scheme, parse_stored_settings
from kitsjax.data.case import Case
from kitsjax.data.folds import find_fold_folders
from kitsjax.data.open_dataset import open_dataset
from kitsjax.errors import InputError
from kitsjax.evaluate.read_results import read_evaluation
from kitsjax.failures import describe_failure
from kitsjax.files import temporary_beside
from kitsjax.infer.bundle import BUNDLE_NAME, read_bundle, save_bundle
from kitsjax.infer.postprocess import CHOICE, get_steps, keep_choice
from kitsjax.labels import LabelScheme
from kitsjax.process_pool import map_cases
from kitsjax.report.statistics import MeanInterval
from kitsjax.run_lock import lock_folder
from kitsjax.run_record import RECORD_NAME, RunRecord, read_record, write_record
from kitsjax.settings import PredictSettings
from kitsjax.tune.choose_steps import Round, choose_steps, chosen_steps, total_gain
from kitsjax.tune.score_steps import list_choices, score_choices

_logger = logging.getLogger(__name__)


class Tuned(NamedTuple):
    """What the held-out cases say of post-processing.

    Attributes:
        runs: the run folders whose models it is for: one, or those of all folds.
        scheme: the labels of the models.
        rounds: what was tried and kept.
        steps: the value of each step that is kept.
        gain: what they change together.
        cases: number of cases scored.
        failures: one line for each case that could not be scored.
    """

    runs: list[Path]
    scheme: LabelScheme
    rounds: list[Round]
    steps: dict[str, Any]
    gain: MeanInterval
    cases: int
    failures: list[str]


def tune_run(folder: str | Path, dataset: str = "", workers: int = 0) -> Tuned:
    """Choose the steps of post-processing for the models of a run, or of all its folds.

    Each case is predicted by the model that did not see it. One without a score fails, since its
    mask may be of an earlier model. The steps that the models have already stay, since the
    predictions have them behind them.

    Args:
        folder: a run folder, or the folder of the folds' runs.
        dataset: the data set, if it has moved since training.
        workers: number of processes; 0: one a core.

    Raises:
        InputError: there is no such run, a run is not finished, its scores cannot be read, the
            models differ in their post-processing, or no held-out case can be scored.
    """
    folder = Path(folder)
    records = _read_records(folder)
    present, scheme = _read_models(list(records))
    lists = [_list_jobs(run, record, dataset) for run, record in records.items()]
    jobs = [job for jobs, _ in lists for job in jobs]
    failures = [line for _, lines in lists for line in lines]
    choices = list_choices(present)
    if not jobs and not failures:
        raise InputError(f"{folder}: holds out no case, so there is nothing to choose by")
    scored = {}
    score = partial(score_choices, present, scheme)
    for (_, path), found in map_cases(score, jobs, workers, "post-processing"):
        if isinstance(found, InputError):
            failures.append(describe_failure(found, path, folder))
        else:
            scored[path] = found
    if not scored:
        raise InputError(f"{folder}: no held-out case can be scored; {' '.join(failures[:1])}")
    # In the order of the jobs, whichever was done first: the intervals depend on it.
    scores = np.array([scored[path] for _, path in jobs if path in scored])
    rounds = choose_steps(scores, choices)
    steps = chosen_steps(rounds)
    gain = total_gain(scores, choices, steps)
    return Tuned(list(records), scheme, rounds, steps, gain, len(scored), failures)


def apply_steps(tuned: Tuned) -> None:
    """Store the chosen steps in the model files, with where they come from.

    The runs are then to predict and score their held-out cases again, as their records say.

    Raises:
        InputError: a model file cannot be read or written, or its run folder is in use.
    """
    choice = {
        "steps": tuned.steps,
        "cases": tuned.cases,
        "gain": tuned.gain._asdict(),
        "gain_of": "mean of Dice and surface Dice over the evaluation classes",
    }
    with ExitStack() as stack:
        # All are held, read and written beside before one is changed: a disk that is full, for
        # example, must not leave some folds with the steps and others without.
        for run in tuned.runs:
            stack.enter_context(lock_folder(run))
        new = {run: stack.enter_context(temporary_beside(run / BUNDLE_NAME)) for run in tuned.runs}
        chosen = {run: _write_bundle(run, path, choice) for run, path in new.items()}
        for run in tuned.runs:
            record = read_record(run)
            assert record is not None
            # First, so that predictions without the steps never count as made with them.
            news = {"stage": "predicting", "postprocess": chosen[run]}
            write_record(run, record.model_copy(update=news))
        for run, path in new.items():
            path.replace(run / BUNDLE_NAME)


def _write_bundle(run: Path, path: Path, choice: Mapping[str, Any]) -> dict[str, Any]:
    """Write the model file of a run with the chosen steps to another path; return its choice."""
    bundle = read_bundle(run)
    # What was chosen before stays.
    earlier = bundle.provenance.get(CHOICE, {}).get("steps", {})
    whole = {**choice, "steps": earlier | choice["steps"]}
    provenance = bundle.provenance | {CHOICE: whole}
    predict = keep_choice(bundle.settings.predict, provenance)
    settings = bundle.settings.model_copy(update={"predict": predict})
    save_bundle(path, bundle.params, settings, provenance)
    return whole


def _read_records(folder: Path) -> dict[Path, RunRecord]:
    """Read the record of a run folder, or those of all folds in it; each must be finished."""
    runs = [folder] if read_record(folder) else find_fold_folders(folder)
    found = {}
    for run in runs:
        record = read_record(run)
        if record is None or record.stage != "finished":
            raise InputError(
                f"{run}: its run is not finished; go on with it: bin/train.py --resume"
            )
        found[run] = record
    if not found:
        raise InputError(f"{folder}: holds neither {RECORD_NAME} nor folds; give a run folder")
    return found


def _read_models(runs: Sequence[Path]) -> tuple[Mapping[str, Any], LabelScheme]:
    """Return the steps and labels that the models of the runs have; the steps must be the same."""
    settings = [read_bundle(run).settings for run in runs]
    first, *others = (_describe(each.predict) for each in settings)
    for run, other in zip(runs[1:], others, strict=True):
        if other != first:
            raise InputError(
                f"{run}: its model has another post-processing ({other}) than that of "
                f"{runs[0]} ({first}); resume both runs with the same [predict]"
            )
    return get_steps(settings[0].predict), choose_scheme(settings[0])


def _describe(settings: PredictSettings) -> str:
    """Describe all post-processing, with the step that needs probabilities."""
    steps = get_steps(settings)
    if settings.least_lesion_certainty:
        steps = {"least_lesion_certainty": settings.least_lesion_certainty, **steps}
    return ", ".join(f"{name} = {value}" for name, value in steps.items()) or "none"


def _list_jobs(
    run: Path, record: RunRecord, dataset: str
) -> tuple[list[tuple[Case, Path]], list[str]]:
    """Pair the held-out cases of a run that have a score with their predictions.

    Returns:
        The pairs, and one line for each case without a score: if its prediction failed, its mask is
        of an earlier model.
    """
    settings = parse_stored_settings(record.settings, f"{run / RECORD_NAME}, its settings")
    root = dataset or settings.data.root
    found = open_dataset(root, settings.data.layout, complete=False).cases
    cases = {case.case_id: case for case in found}
    if lost := set(record.held_out) - cases.keys():
        raise InputError(
            f"{root}: has no {min(lost)}, which {run} holds out; give the data set with --dataset"
        )
    folder = run / "scores"
    scored = read_evaluation(folder).case_ids if folder.exists() else []
    jobs, unscored = [], []
    for name in record.held_out:
        if name in scored:
            jobs.append((cases[name], run / "predictions" / f"{name}.nii.gz"))
        else:
            unscored.append(
                f"{name}: has no score in {folder}, and is left out, since its mask may be of an "
                "earlier model; mend what failed, and go on with the run: bin/train.py --resume"
            )
    return jobs, unscored
