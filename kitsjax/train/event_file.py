"""The scalars of a training as a TensorBoard event file."""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from kitsjax.processes import host_name
from kitsjax.training_log import Row

_logger = logging.getLogger(__name__)


class EventFile:
    """An event file of TensorBoard that rows of the training log are appended to.

    It is written where it is called. tensorboardX's `SummaryWriter` writes in a thread, and if that
    fails, for example since the disk is full, the caller waits for it forever.

    The training log has the same numbers. So a file that cannot be written is told in a note, and
    nothing more is written to it; a resumed run begins another one.

    Args:
        folder: gets the file; made if it does not exist.
        step: optimizer steps already done. TensorBoard then drops what earlier files have of later
            ones.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        self._writer: RecordWriter | None = None
        # TensorBoard reads files in the order of their names, whose first number is a time.
        name = f"events.out.tfevents.{time.time():.0f}.{host_name()}.{time.monotonic_ns()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = RecordWriter(str(folder / name))
        except OSError as error:
            self._give_up(error)
        self._write(Event(file_version="brain.Event:2"))
        # Also at step 0: an earlier start may have ended before its first checkpoint.
        self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, row: Row) -> None:
        """Append the floats of a row as `<kind>/<name>` at its step."""
        values = [
            Summary.Value(tag=f"{row['kind']}/{name}", simple_value=value)
            for name, value in row.items()
            if isinstance(value, float)
        ]
        self._write(Event(step=row["step"], summary=Summary(value=values)))

    def flush(self) -> None:
        """Bring all rows to the disk."""
        if self._writer is not None:
            try:
                self._writer.flush()
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Bring all rows to the disk and close the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError as error:
                self._give_up(error)

    def _write(self, event: Event) -> None:
        if self._writer is not None:
            event.wall_time = time.time()
            try:
                self._writer.write(event.SerializeToString())
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):
                writer.close()
        reason = os.strerror(error.errno) if error.errno else error
        _logger.warning(
            "%s: cannot be written (%s), so TensorBoard lacks the rest of this start; "
            "metrics.jsonl has it", self._folder, reason,
        )  # fmt: skip
