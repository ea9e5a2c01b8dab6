"""The training log of a run folder, `metrics.jsonl`: written and read here.

It has one row per step, {"kind": "step", "step": ..., "loss": ...}, and one per epoch, {"kind":
"epoch", "epoch": ..., "step": ..., ...}, each a line of JSON. Training appends rows, and a report
draws the epochs.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from kitsjax.errors import InputError
from kitsjax.files import write_text
from kitsjax.input_file import advise_reading

LOG_NAME = "metrics.jsonl"
"""File name of the log in a run folder."""

Row = dict[str, Any]
"""A row of the log: its kind, the number of that name, and numbers by name (None: unknown)."""


def _refuse_integer(value: Any) -> Any:
    if isinstance(value, int):
        raise ValueError("an integer that is too large")
    return value


# True is no number, and an integer beyond 64 bits overflows wherever it is used.
_Integer = Annotated[int, Field(strict=True, gt=-(2**63), lt=2**63)]

_Float = Annotated[float, BeforeValidator(_refuse_integer), Field(strict=True)]


class _LoggedRow(BaseModel):
    """A row as training writes it: besides its kind, every value is a number or None."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _Integer | _Float | None]


class _StepRow(_LoggedRow):
    kind: Literal["step"]
    step: _Integer


class _EpochRow(_LoggedRow):
    kind: Literal["epoch"]
    epoch: _Integer


_ROW: TypeAdapter[_StepRow | _EpochRow] = TypeAdapter(
    Annotated[_StepRow | _EpochRow, Field(discriminator="kind")]
)


class TrainingLog:
    """The log of a run that is being trained: an open file that rows are appended to.

    Its methods raise an `InputError` if the file cannot be written.

    Attributes:
        path: the file.
        epochs: rows of the epochs done, those of earlier starts included.

    Args:
        folder: run folder.
        step: optimizer steps done where the run starts or resumes. Rows of later steps are
            dropped, since they are about to be made again.
        epoch: epochs done; likewise.

    Raises:
        InputError: The log cannot be read or written.
    """

    def __init__(self, folder: Path, step: int = 0, epoch: int = 0) -> None:
        self.path = folder / LOG_NAME
        kept = [row for row in read_rows(self.path) if _is_done(row, step, epoch)]
        self.epochs = [row for row in kept if row["kind"] == "epoch"]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = self.path.open("a", encoding="utf-8")

    def add_step(self, row: Row) -> Row:
        """Append the row of a step and return it with its kind."""
        return self._append({"kind": "step", **row})

    def add_epoch(self, row: Row) -> Row:
        """Append the row of an epoch and return it with its kind."""
        row = self._append({"kind": "epoch", **row})
        self.epochs.append(row)
        return row

    def flush(self) -> None:
        """Bring every row to the disk."""
        with self._explain():
            self._file.flush()

    def close(self) -> None:
        """Bring every row to the disk and close the file."""
        with self._explain():
            self._file.close()

    def _append(self, row: Row) -> Row:
        with self._explain():
            self._file.write(json.dumps(row) + "\n")
        return row

    @contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot write the training log ({error.strerror}); make room or mend "
                "the disk, then start again with --resume"
            ) from None


def read_epochs(path: str | Path) -> list[Row]:
    """Read the rows of the epochs; none if there is no file. Raises as `read_rows`."""
    return [row for row in read_rows(path) if row["kind"] == "epoch"]


def read_rows(path: str | Path) -> list[Row]:
    """Read all rows of a training log; none if there is no file.

    A kill can leave half a line at the end: that one is left out.

    Raises:
        InputError: The file cannot be read, or another line of it is no such row.
    """
    path = Path(path)
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the training log ({error.strerror}); "
            + advise_reading(error, "move it away")
        ) from None
    rows = [_parse(line) for line in lines]
    if rows[-1] is None:
        rows.pop()
    if None in rows:
        raise InputError(
            f"{path}, line {rows.index(None) + 1}: not as training writes it; remove that line, "
            "or move the file away"
        )
    return [row for row in rows if row is not None]


def _parse(line: bytes) -> Row | None:
    """Parse a line of the log; None if it is not a row."""
    try:
        return _ROW.validate_json(line).model_dump(exclude_unset=True)
    except ValidationError:
        return None


def _is_done(row: Row, step: int, epoch: int) -> bool:
    # A run stopped in validation has done the epoch's last step but not its epoch row.
    return row["step"] <= step if row["kind"] == "step" else row["epoch"] <= epoch
