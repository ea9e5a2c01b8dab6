"""A trace of a few training steps, which Perfetto and xprof open."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from kitsjax.errors import first_line
from kitsjax.files import check_folder
from kitsjax.hosts import host_count, host_index, is_main
from kitsjax.train.loop import TrainingLoop
from kitsjax.train.state import TrainState
from kitsjax.train.step import Metrics

WARM_UP = 3
"""So many steps are taken before the trace: the first ones may compile, and fill the pipeline."""

PROFILE = "profile"
"""Name of the folder of traces in a run folder."""

STEP_NAME = "train"
"""What a step is called in the trace."""

_logger = logging.getLogger(__name__)


@contextmanager
def trace_steps(loop: TrainingLoop) -> Iterator[None]:
    """Trace `run.profile_steps` steps of a loop that is run meanwhile, on each host.

    The loop gets a train step that also starts and stops the trace; what it computes is the same.
    If the loop ends early, the trace holds the steps until then. A trace that cannot be written is
    a note.

    Raises:
        InputError: the folder of the trace cannot be written.
    """
    wanted, left = loop.settings.run.profile_steps, loop.steps - loop.progress.step
    if not wanted:
        yield
        return
    folder = loop.folder / PROFILE
    if host_count() > 1:
        # Processes of one machine would write files of the same name.
        folder /= f"host_{host_index()}"
    check_folder(folder, "run.folder")
    if left < WARM_UP + wanted and is_main():
        _logger.warning(
            "run.profile_steps = %d: the run has %d steps left, and the trace leaves out the first "
            "%d of them; it holds %d", wanted, left, WARM_UP, max(0, left - WARM_UP),
        )  # fmt: skip
    traced = _TracedStep(loop, folder, wanted)
    loop.program = replace(loop.program, train_step=traced)
    try:
        yield
    finally:
        traced.stop()


class _TracedStep:
    """A train step that traces some of its calls."""

    def __init__(self, loop: TrainingLoop, folder: Path, wanted: int) -> None:
        """Trace `wanted` steps after the next `WARM_UP`."""
        self._step, self._folder = loop.program.train_step, folder
        self._logdir = (loop.folder / PROFILE).resolve()
        self._number = loop.progress.step
        self._first = self._number + WARM_UP + 1
        self._last = self._first + wanted - 1
        self._metrics: Metrics | None = None
        self._is_running = False

    def __call__(self, state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        """Take a step, and start the trace before or stop it after the step where it is due."""
        self._number += 1
        if self._number == self._first:
            self._start()
        with jax.profiler.StepTraceAnnotation(STEP_NAME, step_num=self._number):
            state, self._metrics = self._step(state, batch)
        if self._number == self._last:
            self.stop()
        return state, self._metrics

    def _start(self) -> None:
        # Else the devices would still be at an earlier step.
        jax.block_until_ready(self._metrics)
        options = jax.profiler.ProfileOptions()
        # Each call of Python would be an event; a trace shows a million, and they slow the loop.
        options.python_tracer_level = 0
        try:
            jax.profiler.start_trace(
                self._folder, create_perfetto_trace=True, profiler_options=options
            )
        # A GPU's driver may not let every user profile.
        except Exception as error:
            _logger.warning("%s: nothing is traced (%s)", self._folder, first_line(error))
            return
        self._is_running = True

    def stop(self) -> None:
        """Stop the trace if it is running, once the devices have taken its steps, and write it."""
        if not self._is_running:
            return
        self._is_running = False
        try:
            try:
                jax.block_until_ready(self._metrics)
            finally:
                jax.profiler.stop_trace()
            *_, path = sorted(self._folder.glob("plugins/profile/*/perfetto_trace.json.gz"))
        # Training goes on, and reads the error of a step where it reads the step's loss.
        except Exception as error:
            _logger.warning("%s: the trace was not written (%s)", self._folder, first_line(error))
            return
        if is_main():
            tqdm.write(
                f"trace of steps {self._first} to {self._number}: {path.resolve()} (open it at "
                "https://ui.perfetto.dev; or pip install xprof, and xprof --logdir "
                f"{self._logdir})",
                file=sys.stdout,
            )
