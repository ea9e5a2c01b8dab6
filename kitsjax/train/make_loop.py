"""The training loop of a run, with its plan; or the model file of a run that has trained."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import jax

from kitsjax.data.split import Split
from kitsjax.errors import InputError
from kitsjax.hosts import host_count, is_main
from kitsjax.infer.bundle import BUNDLE_NAME, Bundle, read_bundle
from kitsjax.model.arrays import Params
from kitsjax.prepare import DataSet, check_classes
from kitsjax.run_record import RunRecord
from kitsjax.settings import Settings
from kitsjax.signals import end_at_once_on_signals
from kitsjax.train.loop import TrainingLoop

_logger = logging.getLogger(__name__)


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
            cases: number of training and of held-out cases.
            done: steps that a resumed run has already done.
        """


def read_trained(settings: Settings, record: RunRecord | None) -> Bundle | None:
    """Read the model file of a run whose training is done; None if it is to be made."""
    if record is None or record.stage == "training":
        return None
    folder = Path(settings.run.folder)
    try:
        bundle = read_bundle(folder)
    except InputError as error:
        _logger.warning("%s; it is made again from the checkpoints", error)
        return None
    if is_main():
        print(f"training is done: {folder / BUNDLE_NAME}")
        if wanted := settings.run.profile_steps:
            _logger.warning("run.profile_steps = %d: no step is left to trace", wanted)
    return bundle


def make_loop(
    settings: Settings, data: DataSet, split: Split, record: RunRecord | None
) -> TrainingLoop:
    """Make the training loop at the point that the run has reached.

    Raises:
        InputError: the cases have no labels to learn, nothing is left of a training that is done,
            or the model that it began with is another one now; see also `TrainingLoop`.
    """
    folder = Path(settings.run.folder)
    train, held_out = (
        [data.preprocessed[name] for name in side] for side in (split.train, split.held_out)
    )
    if is_main():
        check_classes(settings.data.root, train, held_out, data.scheme)
    # With no held-out cases, validation uses the training cases, as in nnU-Net's fold "all".
    loop = TrainingLoop(settings, folder, train, held_out or train)
    if record is not None and record.stage != "training" and not loop.resumed:
        raise InputError(
            f"{folder}: its training is done, but {BUNDLE_NAME} and the checkpoints are gone; put "
            "one of them back, or begin another run"
        )
    if record is not None and loop.initial and loop.initial != record.initial:
        raise InputError(
            f"{folder}: there is no checkpoint yet, and train.init_from = "
            f"{settings.train.init_from} is not the model that the run began with; put that back, "
            "or begin another run"
        )
    if record is not None and not loop.resumed and is_main():
        print(f"{folder}: holds no checkpoint, so training begins at its first step")
    if loop.initial and is_main():
        print(f"training starts from the model {settings.train.init_from}")
    return loop


def compile_loop(
    loop: TrainingLoop, split: Split, describe_run: DescribeRun | None, release: Callable[[], None]
) -> None:
    """Compile the train step of a training that is not done, and print the plan.

    Args:
        loop: the training.
        split: the run's split.
        describe_run: describes the run; None: nothing is printed.
        release: removes the run's lock if a signal ends the process, as it may while the compiler
            runs for minutes.
    """
    if loop.finished:
        return
    compiled = None
    # JAX cannot lower ahead what several processes run together (jax 0.10.2).
    if host_count() == 1:
        with end_at_once_on_signals("stopped while compiling; --resume goes on", release):
            compiled = loop.compile()
    if describe_run is not None and is_main():
        params, done = loop.state.params, loop.progress.step
        counts = len(split.train), len(split.held_out)
        text = describe_run(loop.settings, params, compiled, loop.folder, counts, done)
        print(text, flush=True)
