"""Report a run while it trains: training log, TensorBoard, progress bar and learning curves."""

import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tqdm import tqdm

from kitsjax.errors import InputError
from kitsjax.failures import catch, describe_failure
from kitsjax.report.drawing import save_figure
from kitsjax.report.training_curves import plot_training
from kitsjax.train.event_file import EventFile
from kitsjax.train.time_account import PARTS
from kitsjax.training_log import Row, TrainingLog

_logger = logging.getLogger(__name__)

FIGURE = "progress.png"
"""File name of the curves in a run folder."""

DRAWING_SECONDS = 30.0
"""Least time between two figures of the curves. One takes a fifth of a second of a core."""


class Tracker:
    """Writes `metrics.jsonl`, `tensorboard/` and `progress.png` of a run folder.

    The figure is drawn in a thread, since the devices would wait for it: after an epoch, but not
    twice within `DRAWING_SECONDS`, and at the end of the block, whatever ends it. A figure that
    cannot be written is told in a note, and so is an event file of TensorBoard: training goes on.

    Args:
        folder: run folder.
        step: optimizer steps already done. Rows of later steps are dropped from the log, since a
            resumed run is about to write them again.
        epoch: epochs already done; likewise.
        steps: optimizer steps of the whole run.
        active: whether this is the main process; the others report nothing.
        clock: returns seconds from any point in time.
    """

    def __init__(
        self, folder: Path, step: int, epoch: int, steps: int, *, active: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.active = active
        if not active:
            return
        self._log = TrainingLog(folder, step, epoch)
        self._events = EventFile(folder / "tensorboard", step)
        self._drawer = ThreadPoolExecutor(1, "drawing")
        self._clock = clock
        self._drawn_at = -math.inf
        self._drawn_epochs = len(self._log.epochs)
        # disable=None: no bar if the output is a file. The lines per epoch are written even so.
        self._bar = tqdm(total=steps, initial=step, unit="step", disable=None, desc="train")

    def step(self, row: Row) -> None:
        """Log a training step.

        Args:
            row: step, loss, grad_norm and learning_rate.

        Raises:
            InputError: the log cannot be written.
        """
        if not self.active:
            return
        self._events.add(self._log.add_step(row))
        self._bar.update()
        self._bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)

    def epoch(self, row: Row) -> None:
        """Log an epoch, flush everything and begin to draw the curves if it is time.

        The curves are the paper's Figure 2.

        Args:
            row: epoch, step, train_loss, validation_loss, pseudo_dice, pseudo_dice_average,
                patches_per_second (None: no step was left), the share of each part of
                `TimeAccount`, goodput and any other numbers.

        Raises:
            InputError: the log cannot be written.
        """
        if not self.active:
            return
        self._events.add(self._log.add_epoch(row))
        self.flush()
        if self._clock() - self._drawn_at >= DRAWING_SECONDS:
            self._begin_drawing()
        rate = row["patches_per_second"]
        self._bar.write(
            f"epoch {row['epoch']:>4}  train {row['train_loss']:+.4f}  "
            f"validation {row['validation_loss']:+.4f}  dice {row['pseudo_dice']:.3f}  "
            f"average {row['pseudo_dice_average']:.3f}  "
            + ("no step was left" if rate is None else f"{rate:.1f} patches/s"),
            file=sys.stdout,
        )
        shares = ", ".join(f"{part} {row[f'share_{part}']:.0%}" for part in PARTS)
        self._bar.write(f"  time: {shares}; goodput {row['goodput']:.0%}", file=sys.stdout)

    def flush(self) -> None:
        """Write every row to the disk, as a checkpoint requires of the rows before it."""
        if self.active:
            self._log.flush()
            self._events.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.active:
            self._bar.close()
            self._events.close()
            if self._drawn_epochs < len(self._log.epochs):
                self._begin_drawing()
            self._drawer.shutdown()
            try:
                self._log.close()
            except InputError:
                # The error that ended training says more: often both are of a full disk.
                if error is None:
                    raise

    def _begin_drawing(self) -> None:
        """Begin to draw all epochs so far, after the figure before."""
        self._drawn_at, self._drawn_epochs = self._clock(), len(self._log.epochs)
        self._drawer.submit(self._draw, tuple(self._log.epochs))

    def _draw(self, epochs: Sequence[Row]) -> None:
        """Draw the curves; a note tells if it fails."""
        path = self.folder / FIGURE
        found = catch(_draw_curves, epochs, path)
        if isinstance(found, InputError):
            _logger.warning("%s", describe_failure(found, path, self.folder))


def _draw_curves(epochs: Sequence[Row], path: Path) -> None:
    figure = plot_training(epochs).figure
    assert figure is not None
    save_figure(figure, path)
