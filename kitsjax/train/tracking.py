"""What a run reports: JSON Lines, TensorBoard, a progress bar and Figure 2."""

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboardX import SummaryWriter
from tqdm import tqdm

from kitsjax.files import read_rows, write_text
from kitsjax.report.charts import plot_training
from kitsjax.report.drawing import save_figure

Row = dict[str, Any]


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
        path = folder / "metrics.jsonl"
        kept = [row for row in read_rows(path) if _is_before(row, step, epoch)]
        self.epochs = [row for row in kept if row["kind"] == "epoch"]
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._lines = path.open("a", encoding="utf-8")
        purge = {"purge_step": step + 1} if step else {}
        self._board = SummaryWriter(str(folder / "tensorboard"), **purge)
        # No bar where the output is a file; the lines an epoch are written all the same.
        self._bar = tqdm(total=steps, initial=step, unit="step", disable=None, desc="train")

    def step(self, row: Row) -> None:
        """Log a training step: step, loss, grad_norm, learning_rate."""
        if not self.active:
            return
        self._write({"kind": "step", **row})
        self._bar.update()
        self._bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)

    def epoch(self, row: Row) -> None:
        """Log an epoch: epoch, step, train_loss, validation_loss, dice, dice_average, ...

        Flushes everything and draws Figure 2.
        """
        if not self.active:
            return
        self._write({"kind": "epoch", **row})
        self.epochs.append(row)
        self.flush()
        figure = plot_training(self.epochs).figure
        assert figure is not None
        save_figure(figure, self.folder / "progress.png")
        self._bar.write(
            f"epoch {row['epoch']:>4}  train {row['train_loss']:+.4f}  "
            f"validation {row['validation_loss']:+.4f}  dice {row['dice']:.3f}  "
            f"average {row['dice_average']:.3f}  {row['patches_per_second']:.1f} patches/s  "
            f"waiting for data {row['data_wait']:.0%}",
            file=sys.stdout,
        )

    def flush(self) -> None:
        """Bring every row to the disk, before a checkpoint claims that it is there."""
        if self.active:
            self._lines.flush()
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
            self._lines.close()
            self._board.close()

    def _write(self, row: Row) -> None:
        self._lines.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if isinstance(value, float):
                self._board.add_scalar(f"{row['kind']}/{name}", value, row["step"])


def _is_before(row: Row, step: int, epoch: int) -> bool:
    # A run stopped in validation has done the epoch's last step but not its epoch row.
    return row["step"] <= step if row["kind"] == "step" else row["epoch"] <= epoch
