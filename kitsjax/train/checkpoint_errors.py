"""Errors of reading and writing checkpoints, as one line that tells the cause truthfully."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kitsjax.errors import InputError, RetryError

_FULL = ("No space left on device", "Disk quota exceeded")

_NOT_DAMAGE = ("Permission denied", "Too many open files", "Cannot allocate memory")
"""What TensorStore says if a file could not be read for a reason that lies outside of it."""

_TRANSIENT = (
    "Stale file handle", "timed out", "Transport endpoint is not connected", "DEADLINE_EXCEEDED",
)  # fmt: skip
"""What a network disk says, or Orbax's waiting for other hosts, where another try may succeed."""


class DamagedCheckpointError(InputError):
    """A checkpoint whose files are missing or hold other bytes than were written."""


@contextmanager
def explain_save(folder: Path) -> Iterator[None]:
    """Turn whatever Orbax and TensorStore raise while they write into one line.

    Raises:
        InputError: always, if anything is raised; a RetryError, if another try may succeed.
    """
    try:
        yield
    except Exception as error:
        text, what = _full_text(error), _first_words(error)
        _raise_transient(text, f"{folder}: cannot save a checkpoint ({what})")
        # RESOURCE_EXHAUSTED alone may as well be memory or the number of open files.
        full = any(words in text for words in _FULL)
        reason = "the disk is full" if full else what
        remedy = "free the disk" if full else "mend that"
        raise InputError(
            f"{folder}: cannot save a checkpoint ({reason}); {remedy}, then --resume"
        ) from None


@contextmanager
def explain_restore(folder: Path) -> Iterator[None]:
    """Turn whatever Orbax and TensorStore raise while they read a checkpoint into one line.

    Raises:
        DamagedCheckpointError: a file of it is missing or damaged.
        RetryError: the disk or another host did not answer; the checkpoint may be whole.
        InputError: it could not be read, for want of memory for example, and may be whole.
    """
    try:
        yield
    except Exception as error:
        text, what = _full_text(error), _first_words(error)
        _raise_transient(text, f"{folder}: cannot read the checkpoint ({what})")
        if isinstance(error, MemoryError | PermissionError) or any(
            words in text for words in _NOT_DAMAGE
        ):
            raise InputError(
                f"{folder}: cannot read the checkpoint ({what}); mend that, then --resume"
            ) from None
        raise DamagedCheckpointError(f"{folder}: the checkpoint is damaged ({what})") from None


def _raise_transient(text: str, message: str) -> None:
    """Raise a RetryError with this message if the text of an error tells that it may pass."""
    if any(words in text for words in _TRANSIENT):
        raise RetryError(f"{message}; start again with --resume") from None


def _full_text(error: BaseException | None) -> str:
    """Join the messages of an exception and its causes, with those of the system's error codes."""
    text = ""
    while error is not None:
        code = error.errno if isinstance(error, OSError) else None
        if code in (errno.ENOSPC, errno.EDQUOT):
            text += _FULL[code == errno.EDQUOT]
        text += f"{error}\n"
        error = error.__cause__ or error.__context__
    return text


def _first_words(error: Exception) -> str:
    """Return the class of an exception and the first line of its message, shortened."""
    line = str(error).partition("\n")[0][:200]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
