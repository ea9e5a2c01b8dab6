"""Report a run while it trains: training log, TensorBoard, progress bar and learning curves."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tensorboardX import SummaryWriter
from tqdm import tqdm

from kitsjax.report.drawing import save_figure
from kitsjax.report.training_curves import plot_training
from kitsjax.train.time_account import PARTS
from kitsjax.training_log import Row, TrainingLog

DRAWING_SECONDS = 30.0
"""Least time between two figures of the curves. One takes a fifth of a second of a core."""


class Tracker:
    """Writes `metrics.jsonl`, `tensorboard/` and `progress.png` of a run folder.

    The figure is drawn in a thread, since the devices would wait for it: after an epoch, but not
    twice within `DRAWING_SECONDS`, and at the end of the block, whatever ends it. If it cannot be
    written, the next figure or the end of the block raises the error.

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
        purge = {"purge_step": step + 1} if step else {}
        self._board = SummaryWriter(str(folder / "tensorboard"), **purge)
        self._drawer = ThreadPoolExecutor(1, "drawing")
        self._drawing: Future[None] | None = None
        self._clock = clock
        self._drawn_at = -math.inf
        self._all_drawn = True
        # disable=None: no bar if the output is a file. The lines per epoch are written even so.
        self._bar = tqdm(total=steps, initial=step, unit="step", disable=None, desc="train")

    def step(self, row: Row) -> None:
        """Log a training step.

        Args:
            row: step, loss, grad_norm and learning_rate.
        """
        if not self.active:
            return
        self._add_scalars(self._log.add_step(row))
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
            InputError: the figure of an earlier epoch could not be written.
        """
        if not self.active:
            return
        self._add_scalars(self._log.add_epoch(row))
        self.flush()
        self._all_drawn = False
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
            self._board.flush()

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
            self._log.close()
            self._board.close()
            try:
                if not self._all_drawn:
                    self._begin_drawing()
                self._finish_drawing()
            except Exception:
                if error is None:
                    raise
            finally:
                self._drawer.shutdown()

    def _draw(self, epochs: Sequence[Row]) -> None:
        figure = plot_training(epochs).figure
        assert figure is not None
        save_figure(figure, self.folder / "progress.png")

    def _begin_drawing(self) -> None:
        """Begin to draw all epochs so far, after the figure before, whose error it raises."""
        self._finish_drawing()
        self._drawn_at, self._all_drawn = self._clock(), True
        self._drawing = self._drawer.submit(self._draw, tuple(self._log.epochs))

    def _finish_drawing(self) -> None:
        """Wait for the figure that is being drawn, and raise what went wrong with it."""
        if self._drawing is not None:
            self._drawing.result()

    def _add_scalars(self, row: Row) -> None:
        for name, value in row.items():
            if isinstance(value, float):
                self._board.add_scalar(f"{row['kind']}/{name}", value, row["step"])
