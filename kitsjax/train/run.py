"""A whole run: raw cases -> preprocessed cases -> trained model -> scored native masks."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from kitsjax.config import choose_scheme
from kitsjax.data.case import Case
from kitsjax.data.folds import choose_folds, write_folds
from kitsjax.data.split import Split
from kitsjax.devices import connect_devices, start_devices
from kitsjax.errors import USAGE_STATUS
from kitsjax.files import check_folder
from kitsjax.host_watch import HostWatch, end_together
from kitsjax.hosts import barrier, is_main
from kitsjax.infer.bundle import BUNDLE_NAME, save_bundle
from kitsjax.make_scheme import describe_scheme
from kitsjax.model.arrays import Params
from kitsjax.prepare import DataSet, fill_intensities
from kitsjax.run_lock import LOCK_NAME, lock_folder
from kitsjax.run_record import RECORD_NAME, KeptEpoch, RunRecord, read_record, write_record
from kitsjax.settings import Settings
from kitsjax.signals import Stopped
from kitsjax.train.agreement import (
    agree_on_folder,
    agree_on_progress,
    agree_on_settings,
    agree_on_start,
)
from kitsjax.train.chosen_steps import describe_origin, take_choice
from kitsjax.train.loop import TrainingLoop
from kitsjax.train.make_loop import DescribeRun, compile_loop, make_loop, read_trained
from kitsjax.train.preparation import prepare_together
from kitsjax.train.run_files import check_files
from kitsjax.train.run_folder import begin_run, choose_split, open_run
from kitsjax.train.shared_prediction import predict_together
from kitsjax.train.stall import end_stalled
from kitsjax.train.summary import SUMMARY_NAME, report_scores
from kitsjax.train.trace import trace_steps


def run(
    settings: Settings, *, resume: bool = False, describe_run: DescribeRun | None = None
) -> int:
    """Prepare the data, train, predict the held-out cases and score them.

    Args:
        settings: all settings of the run.
        resume: go on with the run that is in `run.folder`, if there is one.
        describe_run: its text is printed before training starts; None: nothing is printed.

    Returns:
        The exit status, the same on all hosts: 0, or 2 if a held-out case failed.

    Raises:
        InputError: anything that the user can correct, in one line.
        RetryError: another host has died, or did not come.
        Stopped: SIGTERM or SIGINT came, to whichever host; the message says what --resume will do.
    """
    start_devices(settings.run, keep_memory=True)
    try:
        return end_together(lambda watch: run_together(settings, resume, describe_run, watch))
    except Stopped as stopped:
        text = stopped.find_text() or describe_stop(Path(settings.run.folder))
        raise Stopped(stopped.number, text) from None


def run_together(
    settings: Settings, resume: bool, describe_run: DescribeRun | None, watch: HostWatch | None
) -> int:
    """Do the work of `run` where JAX is started, as `end_together` calls it."""
    agree_on_settings(settings)
    folder = Path(settings.run.folder)
    with _hold_folder(folder, watch) as release:
        # When this returns, nothing holds the memory of the training and its data any more.
        trained = _prepare_and_train(settings, folder, resume, describe_run, release)
        complete, train, held_out = trained
        return _predict_and_score(complete, folder, train, held_out)


@contextmanager
def _hold_folder(folder: Path, watch: HostWatch | None) -> Iterator[Callable[[], None]]:
    """Hold the run folder for this run; the main process holds its lock, which all hosts see.

    The block gets a function that releases it.
    """
    if is_main():
        check_folder(folder, "run.folder", (LOCK_NAME, RECORD_NAME, BUNDLE_NAME, SUMMARY_NAME))
    with lock_folder(folder) if is_main() else nullcontext(_nothing) as release:
        if watch is not None:
            watch.tidy = release
        agree_on_folder(folder)
        yield release


def _prepare_and_train(
    settings: Settings,
    folder: Path,
    resume: bool,
    describe_run: DescribeRun | None,
    release: Callable[[], None],
) -> tuple[Settings, list[Case], list[Case]]:
    """Do all work before the prediction; return its settings, training and held-out cases."""
    record = open_run(settings, resume)
    if is_main():
        if resume and record is None:
            print(f"{folder}: nothing to resume, a new run begins")
        print(f"run folder: {folder.resolve()}", flush=True)
    data = prepare_together(settings)
    ids = [case.case_id for case in data.cases]
    split = choose_split(settings, ids, record)
    cases = {case.case_id: case for case in data.cases}
    train, held_out = ([cases[name] for name in side] for side in (split.train, split.held_out))
    if record is not None and is_main():
        check_files(record, settings, [*train, *held_out])
    complete = _complete_settings(settings, data, split, record)
    bundle = read_trained(settings, record)
    provenance = bundle.provenance if bundle else describe_origin(record)
    complete = take_choice(complete, provenance)
    agree_on_start(split, complete.preprocess.intensities, bundle is not None)
    if bundle is None:
        loop = make_loop(complete, data, split, record)
        agree_on_progress(loop.progress, loop.initial)
        compile_loop(loop, split, describe_run, release)
    # All that can be wrong was looked at, so that a folder holds no run that cannot go on.
    if is_main():
        if record is None and settings.data.fold >= 0:
            write_folds(folder.parent, choose_folds(settings.data, ids))
        facts = complete.preprocess.intensities, "" if bundle else loop.initial
        record = begin_run(settings, split, [*train, *held_out], record, *facts)
    if bundle is None:
        _train(loop, complete, record, provenance, release)
    else:
        _save_model(complete, record, bundle.params, provenance, None)
    barrier("saving the model")
    return complete, train, held_out


def _train(
    loop: TrainingLoop,
    settings: Settings,
    record: RunRecord | None,
    provenance: dict[str, Any],
    release: Callable[[], None],
) -> None:
    """Train to the last epoch, and save the model.

    Args:
        loop: the training.
        settings: all settings of the run, with intensities.
        record: the run's record, on the main process.
        provenance: see `save_bundle`.
        release: removes the run's lock if the process ends within.
    """
    barrier("beginning the run")
    connect_devices()
    began = record.began if record else None
    with end_stalled(settings.run.stall_minutes, release) as stepped, trace_steps(loop):
        best = loop.fit(began=began, stepped=stepped)
    if best:
        params, progress = best
        kept = KeptEpoch.model_validate(progress, from_attributes=True)
        _save_model(settings, record, params, provenance, kept)


def _nothing() -> None:
    """Release nothing: only the main process holds the run folder's lock."""


def _complete_settings(
    settings: Settings, data: DataSet, split: Split, record: RunRecord | None
) -> Settings:
    """Complete the settings by what only the data tells, so that a model file has it.

    It is the data set's label scheme, and the intensities of the training cases if these normalize.
    A run that goes on takes those of its record, where they stand apart from the settings: a copy
    of its settings begins another run, which measures its own.

    Raises:
        InputError: the settings do not fit the labels.
    """
    settings = settings.model_copy(update={"labels": describe_scheme(data.scheme)})
    choose_scheme(settings)
    cases = [data.preprocessed[name] for name in split.train]
    measured = record.intensities if record else ()
    preprocess = fill_intensities(settings.preprocess, cases, measured)
    return settings.model_copy(update={"preprocess": preprocess})


def _save_model(
    settings: Settings,
    record: RunRecord | None,
    params: Params,
    provenance: dict[str, Any],
    kept: KeptEpoch | None,
) -> None:
    """Write the model file and note in the run's record that training is done.

    Args:
        settings: all settings of the run, with intensities.
        record: the run's record; only the main process has it for certain, and only that writes.
        params: the best parameters.
        provenance: see `save_bundle`.
        kept: the epoch of these parameters; None if the record has it already.
    """
    if not is_main():
        return
    assert record is not None
    folder = Path(settings.run.folder)
    save_bundle(folder / BUNDLE_NAME, params, settings.without_trace(), provenance)
    news = {"stage": "predicting", "kept": kept or record.kept}
    write_record(folder, record.model_copy(update=news))


def _predict_and_score(
    settings: Settings, folder: Path, train: Sequence[Case], held_out: Sequence[Case]
) -> int:
    """Predict and score the held-out cases, print what failed, and return the exit status."""
    unpredicted = predict_together(held_out, folder)
    _print_failures(failure.message for failure in unpredicted)
    unscored = report_scores(settings, folder, train, held_out, unpredicted)
    _print_failures(unscored)
    if is_main():
        print(_describe_outputs(folder, len(held_out)))
    return USAGE_STATUS if unpredicted or unscored else 0


def _print_failures(messages: Iterable[str]) -> None:
    for message in messages if is_main() else ():
        print(f"failed: {message}", file=sys.stderr, flush=True)


def _describe_outputs(folder: Path, held_out: int) -> str:
    """Name what the run has made; without held-out cases there are no masks and no scores."""
    names = (BUNDLE_NAME, "predictions/*", "scores/scores.csv", "report/report.html", SUMMARY_NAME)
    made = [name.removesuffix("/*") for name in names if any(folder.glob(name))]
    text = f"{', '.join(made)}: {folder.resolve()}"
    return text if held_out else f"{text} (no case is held out, so none is predicted and scored)"


def describe_stop(folder: Path) -> str:
    """Say what --resume does with a run that was stopped outside of its training loop."""
    record = read_record(folder)
    if record is None:
        return "stopped before training began; --resume, or the same command, begins it"
    if record.stage == "training":
        return "stopped; --resume goes on from the latest checkpoint"
    return "stopped after training; --resume predicts and scores what is left"
