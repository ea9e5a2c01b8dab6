"""A whole run: raw cases -> preprocessed cases -> trained model -> scored native masks."""

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax

from kitsjax.data.kits import Case
from kitsjax.data.split import Split
from kitsjax.devices import barrier, is_main, start_devices
from kitsjax.errors import InputError
from kitsjax.files import check_folder
from kitsjax.infer.bundle import BUNDLE_NAME, load_model, save_bundle
from kitsjax.infer.predict_files import predict_files
from kitsjax.model.arrays import Params
from kitsjax.prepare import DataSet, describe_preparation, fill_intensities, prepare_data
from kitsjax.run_lock import LOCK_NAME, lock_folder
from kitsjax.run_record import RECORD_NAME, KeptEpoch, RunRecord, read_record, write_record
from kitsjax.settings import Settings
from kitsjax.signals import Stopped
from kitsjax.train.make_loop import DescribeRun, compile_loop, make_loop, read_trained
from kitsjax.train.run_files import check_files
from kitsjax.train.run_folder import begin_run, choose_split, open_run, package_versions
from kitsjax.train.summary import SUMMARY_NAME, report_scores


def run(
    settings: Settings, *, resume: bool = False, describe_run: DescribeRun | None = None
) -> int:
    """Prepare the data, train, predict the held-out cases and score them.

    Args:
        settings: all settings of the run.
        resume: go on with the run that is in `run.folder`, if there is one.
        describe_run: its text is printed before training starts; None: nothing is printed.

    Returns:
        The exit status: 0, or 2 if a held-out case failed.

    Raises:
        InputError: anything that the user can correct, in one line.
        Stopped: SIGTERM or SIGINT came; the message says what --resume will do.
    """
    start_devices(settings.run, keep_memory=True)
    folder = Path(settings.run.folder)
    if is_main():
        check_folder(folder, "run.folder", (LOCK_NAME, RECORD_NAME, BUNDLE_NAME, SUMMARY_NAME))
    try:
        with lock_folder(folder) if is_main() else nullcontext(_nothing) as release:
            return _run(settings, folder, resume, describe_run, release)
    except Stopped as stopped:
        raise Stopped(stopped.number, stopped.text or _describe_stop(folder)) from None


def _run(
    settings: Settings,
    folder: Path,
    resume: bool,
    describe_run: DescribeRun | None,
    release: Callable[[], None],
) -> int:
    record = open_run(settings, resume)
    if is_main():
        if resume and record is None:
            print(f"{folder}: nothing to resume, a new run begins")
        print(f"run folder: {folder.resolve()}", flush=True)
    data = _prepare(settings)
    split = choose_split(settings, [case.case_id for case in data.cases], record)
    cases = {case.case_id: case for case in data.cases}
    train, held_out = ([cases[name] for name in side] for side in (split.train, split.held_out))
    if record is not None:
        check_files(record, settings, [*train, *held_out])
    complete = _measure_intensities(settings, data, split, record)
    bundle = read_trained(folder, record)
    if bundle is None:
        loop = make_loop(complete, data, split, record)
        compile_loop(loop, split, describe_run, release)
    # All that can be wrong was looked at, so that a folder holds no run that cannot go on.
    if is_main():
        intensities = complete.preprocess.intensities
        record = begin_run(settings, split, [*train, *held_out], record, intensities)
    if bundle is None:
        params, progress = loop.fit(began=record.began if record else None)
        kept = KeptEpoch.model_validate(progress, from_attributes=True)
        _save_model(complete, record, params, {"versions": package_versions()}, kept)
    else:
        _save_model(complete, record, bundle.params, bundle.provenance, None)
    barrier("trained")
    return _predict_and_score(settings, folder, train, held_out)


def _nothing() -> None:
    """Release nothing: only the main process holds the run folder's lock."""


def _prepare(settings: Settings) -> DataSet:
    """Prepare the data in the main process; the others find it on the shared disk afterwards."""
    if is_main():
        data = _prepare_here(settings)
        print(describe_preparation(data), flush=True)
    barrier("prepared")
    if not is_main():
        data = _prepare_here(settings)
    return data


def _prepare_here(settings: Settings) -> DataSet:
    """Preprocess the cases; a case that failed ends the run."""
    data = prepare_data(settings.data, settings.phantom, settings.preprocess)
    if failures := data.report.failures:
        for _, message in failures:
            print(f"failed: {message}", file=sys.stderr)
        raise InputError(
            f"{settings.data.root}: {len(failures)} of {len(data.cases)} cases cannot be used, as "
            "listed above; correct them, or move them out of the data folder"
        )
    return data


def _measure_intensities(
    settings: Settings, data: DataSet, split: Split, record: RunRecord | None
) -> Settings:
    """Complete the settings by the intensities of the training cases, if these normalize.

    A run that goes on takes those of its record, where they stand apart from the settings: a copy
    of its settings begins another run, which measures its own.
    """
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
    save_bundle(folder / BUNDLE_NAME, params, settings, provenance)
    news = {"stage": "predicting", "kept": kept or record.kept}
    write_record(folder, record.model_copy(update=news))


def _predict_and_score(
    settings: Settings, folder: Path, train: Sequence[Case], held_out: Sequence[Case]
) -> int:
    """Predict and score the held-out cases, print what failed, and return the exit status."""
    failures = _predict(folder, held_out)
    barrier("predicted")
    if is_main():
        failures += report_scores(settings, folder, train, held_out)
        for message in failures:
            print(f"failed: {message}", file=sys.stderr)
        print(_describe_outputs(folder, len(held_out)))
    return 2 if failures else 0


def _predict(folder: Path, held_out: Sequence[Case]) -> list[str]:
    """Predict this process's share of the held-out cases, as `bin/predict.py --continue` does.

    Returns:
        One line for each case that failed.
    """
    share = held_out[jax.process_index() :: jax.process_count()]
    files = [(c.image, folder / "predictions" / f"{c.case_id}.nii.gz") for c in share]
    failures = predict_files(load_model(folder), files, keep_current=True) if files else []
    return [message for _, message in failures]


def _describe_outputs(folder: Path, held_out: int) -> str:
    """Name what the run has made; without held-out cases there are no masks and no scores."""
    names = (BUNDLE_NAME, "predictions/*", "scores/scores.csv", "report/report.html", SUMMARY_NAME)
    made = [name.removesuffix("/*") for name in names if any(folder.glob(name))]
    text = f"{', '.join(made)}: {folder.resolve()}"
    return text if held_out else f"{text} (no case is held out, so none is predicted and scored)"


def _describe_stop(folder: Path) -> str:
    """Say what --resume does with a run that was stopped outside of its training loop."""
    record = read_record(folder)
    if record is None:
        return "stopped before training began; --resume, or the same command, begins it"
    if record.stage == "training":
        return "stopped; --resume goes on from the latest checkpoint"
    return "stopped after training; --resume predicts and scores what is left"
