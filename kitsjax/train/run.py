"""A whole run: raw cases -> preprocessed cases -> trained model -> scored native masks."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

import jax

from kitsjax.data.kits import Case
from kitsjax.data.split import Split
from kitsjax.devices import barrier, is_main, start_devices
from kitsjax.errors import InputError
from kitsjax.infer.bundle import BUNDLE_NAME, load_model, save_bundle
from kitsjax.infer.predict_files import predict_files
from kitsjax.model.arrays import Params
from kitsjax.prepare import DataSet, describe_preparation, prepare_data
from kitsjax.run_lock import lock_folder
from kitsjax.settings import Settings
from kitsjax.train.loop import TrainingLoop
from kitsjax.train.program import lower_train_step
from kitsjax.train.run_folder import choose_split, open_run, package_versions
from kitsjax.train.signals import Stopped
from kitsjax.train.summary import report_scores


class DescribeRun(Protocol):
    """A function that describes a run before it starts: `kitsjax.plan` has it."""

    def __call__(
        self,
        settings: Settings,
        params: Params,
        compiled: jax.stages.Compiled | None,
        folder: Path,
        cases: tuple[int, int],
        done: int,
        /,
    ) -> str:
        """Describe in a few lines what a run is about to do.

        Args:
            settings: all settings of the run.
            params: the parameters of one device.
            compiled: the compiled train step; None where several processes share it.
            folder: run folder.
            cases: number of training and of validation cases.
            done: steps that a resumed run has already done.
        """


def run(
    settings: Settings, *, resume: bool = False, describe_run: DescribeRun | None = None
) -> int:
    """Prepare the data, train, predict the held-out cases and score them.

    Args:
        settings: all settings of the run.
        resume: go on with the run that is in `run.folder`, if there is one.
        describe_run: its text is printed before training starts; None: nothing is printed.

    Returns:
        The exit status: 0, 2 if a held-out case failed, or 128 + the number of a signal that
        stopped the run.

    Raises:
        InputError: anything that the user can correct, in one line.
    """
    start_devices(settings.run, keep_memory=True)
    folder = Path(settings.run.folder)
    with lock_folder(folder) if is_main() else nullcontext():
        return _run(settings, folder, resume, describe_run)


def _run(settings: Settings, folder: Path, resume: bool, describe_run: DescribeRun | None) -> int:
    """Do what `run` does, in a folder that this run holds."""
    if is_main():
        open_run(settings, resume)
        print(f"run folder: {folder.resolve()}", flush=True)
    data, split = _prepare(settings, folder)
    try:
        params = _train(settings, folder, data, split, describe_run)
    except Stopped as stopped:
        print(stopped, flush=True)
        return stopped.status
    if is_main():
        save_bundle(folder / BUNDLE_NAME, params, settings, {"versions": package_versions()})
    barrier("trained")
    cases = {case.case_id: case for case in data.cases}
    train_cases = [cases[name] for name in split.train]
    held_out = [cases[name] for name in split.held_out]
    failures = _predict(folder, held_out)
    barrier("predicted")
    if is_main():
        failures += report_scores(settings, folder, train_cases, held_out)
        for message in failures:
            print(f"failed: {message}", file=sys.stderr)
        print(f"model, masks, scores and report/report.html: {folder.resolve()}")
    return 2 if failures else 0


def _prepare(settings: Settings, folder: Path) -> tuple[DataSet, Split]:
    """Prepare the data in the main process; the others find it on the shared disk afterwards."""
    if is_main():
        data, split = _prepare_here(settings, folder)
        print(describe_preparation(data), flush=True)
    barrier("prepared")
    if not is_main():
        data, split = _prepare_here(settings, folder)
    return data, split


def _prepare_here(settings: Settings, folder: Path) -> tuple[DataSet, Split]:
    """Preprocess the cases and choose the run's split; a case that failed ends the run."""
    data = prepare_data(settings.data, settings.phantom, settings.preprocess)
    if failures := data.report.failures:
        for _, message in failures:
            print(f"failed: {message}", file=sys.stderr)
        raise InputError(
            f"{settings.data.root}: {len(failures)} of {len(data.cases)} cases cannot be used, as "
            "listed above; correct them, or move them out of the data folder"
        )
    return data, choose_split(settings, [case.case_id for case in data.cases], folder)


def _train(
    settings: Settings,
    folder: Path,
    data: DataSet,
    split: Split,
    describe_run: DescribeRun | None,
) -> Params:
    """Print the plan and train; returns the best parameters."""
    train_cases = [data.preprocessed[name] for name in split.train]
    held_out = [data.preprocessed[name] for name in split.held_out]
    # With no held-out cases, validation uses the training cases, as in nnU-Net's fold "all".
    loop = TrainingLoop(settings, folder, train_cases, held_out or train_cases)
    if describe_run is not None and is_main() and not loop.finished:
        # One process alone cannot compile what all processes are to run together.
        alone = jax.process_count() == 1
        compiled = lower_train_step(settings, loop.program, loop.state).compile() if alone else None
        counts = len(loop.train_cases), len(loop.validation_cases)
        params, done = loop.state.params, loop.progress.step
        print(describe_run(settings, params, compiled, folder, counts, done), flush=True)
    return loop.fit()


def _predict(folder: Path, held_out: Sequence[Case]) -> list[str]:
    """Predict this process's share of the held-out cases, as `bin/predict.py` does.

    Returns:
        One line for each case that failed.
    """
    share = held_out[jax.process_index() :: jax.process_count()]
    files = [(c.image, folder / "predictions" / f"{c.case_id}.nii.gz") for c in share]
    failures = predict_files(load_model(folder), files) if files else []
    return [message for _, message in failures]
