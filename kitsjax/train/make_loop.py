"""The training loop of a run, with its plan; or the model file of a run that has trained."""

import logging
from pathlib import Path
from typing import Protocol

import jax

from kitsjax.data.split import Split
from kitsjax.devices import is_main
from kitsjax.errors import InputError
from kitsjax.infer.bundle import BUNDLE_NAME, Bundle, read_bundle
from kitsjax.model.arrays import Params
from kitsjax.prepare import DataSet, check_classes
from kitsjax.run_record import RunRecord
from kitsjax.settings import Settings
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


def read_trained(folder: Path, record: RunRecord | None) -> Bundle | None:
    """Read the model file of a run whose training is done; None if it is to be made."""
    if record is None or record.stage == "training":
        return None
    try:
        bundle = read_bundle(folder)
    except InputError as error:
        _logger.warning("%s; it is made again from the checkpoints", error)
        return None
    if is_main():
        print(f"training is done: {folder / BUNDLE_NAME}")
    return bundle


def make_loop(
    settings: Settings,
    data: DataSet,
    split: Split,
    record: RunRecord | None,
    describe_run: DescribeRun | None,
) -> TrainingLoop:
    """Make the training loop, compile its step, and print the plan."""
    folder = Path(settings.run.folder)
    train, held_out = (
        [data.preprocessed[name] for name in side] for side in (split.train, split.held_out)
    )
    if is_main():
        check_classes(settings.data.root, train, held_out)
    # With no held-out cases, validation uses the training cases, as in nnU-Net's fold "all".
    loop = TrainingLoop(settings, folder, train, held_out or train)
    if record is not None and record.stage != "training" and loop.progress.step == 0:
        raise InputError(
            f"{folder}: its training is done, but {BUNDLE_NAME} and the checkpoints are gone; put "
            "one of them back, or begin another run"
        )
    if not loop.finished:
        # One process alone cannot compile what all processes are to run together.
        compiled = loop.compile() if jax.process_count() == 1 else None
        if describe_run is not None and is_main():
            params, done = loop.state.params, loop.progress.step
            counts = len(train), len(held_out)
            print(describe_run(settings, params, compiled, folder, counts, done), flush=True)
    return loop
