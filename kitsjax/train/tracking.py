"""What a run reports: JSON Lines, TensorBoard, a progress bar and Figure 2."""

import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tensorboardX import SummaryWriter
from tqdm import tqdm

from kitsjax.report.drawing import save_figure
from kitsjax.report.training_curves import plot_training
from kitsjax.training_log import Row, TrainingLog


class Tracker:
    """Writes `metrics.jsonl`, `tensorboard/` and `progress.png` of a run folder.

    `metrics.jsonl` holds a row a step ({"kind": "step", "step": ...}) and a row an epoch
    ({"kind": "epoch", "epoch": ..., "step": ...}); rows after `step`, where the run resumes, are
    dropped, since they are about to be made again.

    Args:
        folder: run folder.
        step: optimizer steps already done.
        epoch: epochs already done.
        steps: optimizer steps of the whole run.
        active: whether this is the one process that reports; the others keep silent.
    """

    def __init__(
        self, folder: Path, step: int, epoch: int, steps: int, *, active: bool = True
    ) -> None:
        self.folder = folder
        self.active = active
        if not active:
            return
        self._log = TrainingLog(folder, step, epoch)
        purge = {"purge_step": step + 1} if step else {}
        self._board = SummaryWriter(str(folder / "tensorboard"), **purge)
        # No bar where the output is a file; the lines an epoch are written all the same.
        self._bar = tqdm(total=steps, initial=step, unit="step", disable=None, desc="train")

    def step(self, row: Row) -> None:
        """Log a training step: step, loss, grad_norm, learning_rate."""
        if not self.active:
            return
        self._add_scalars(self._log.add_step(row))
        self._bar.update()
        self._bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)

    def epoch(self, row: Row) -> None:
        """Log an epoch: epoch, step, train_loss, validation_loss, pseudo_dice, pseudo_dice_average, ...

        Flushes everything and draws Figure 2.
        """
        if not self.active:
            return
        self._add_scalars(self._log.add_epoch(row))
        self.flush()
        figure = plot_training(self._log.epochs).figure
        assert figure is not None
        save_figure(figure, self.folder / "progress.png")
        self._bar.write(
            f"epoch {row['epoch']:>4}  train {row['train_loss']:+.4f}  "
            f"validation {row['validation_loss']:+.4f}  dice {row['pseudo_dice']:.3f}  "
            f"average {row['pseudo_dice_average']:.3f}  {row['patches_per_second']:.1f} patches/s  "
            f"waiting for data {row['data_wait']:.0%}",
            file=sys.stdout,
        )

    def flush(self) -> None:
        """Bring every row to the disk, before a checkpoint claims that it is there."""
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

    def _add_scalars(self, row: Row) -> None:
        for name, value in row.items():
            if isinstance(value, float):
                self._board.add_scalar(f"{row['kind']}/{name}", value, row["step"])
