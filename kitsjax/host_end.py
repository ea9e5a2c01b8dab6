"""How a host of a run ends: what it tells the others, and what that means for them."""

import re
from dataclasses import dataclass
from typing import Any

from kitsjax.errors import RETRY_STATUS, InputError, RetryError, first_line
from kitsjax.processes import host_name
from kitsjax.signals import Stopped

AGAIN = "start all hosts again with --resume"
"""What to do when a host has died."""

UNFORESEEN_STATUS = 1
"""Exit status of Python after an exception that nobody caught."""

# What XLA, gloo and NCCL say when another process has left a computation that all share.
_BROKEN = re.compile(r"gloo|nccl|connection|unavailable|peer|collective|heartbeat|barrier", re.I)


@dataclass(frozen=True)
class HostEnd:
    """How a host ends.

    Attributes:
        status: exit status; 0: its work is done.
        signal: number of the signal that stopped it, or 0.
        message: what went wrong, in one line.
        name: the name of its machine.
    """

    status: int = 0
    signal: int = 0
    message: str = ""
    name: str = ""


def describe_end(error: BaseException | None) -> HostEnd:
    """Describe how an error ends this host, as the commands do."""
    name = host_name()
    if error is None:
        return HostEnd(name=name)
    if isinstance(error, Stopped):
        return HostEnd(error.status, error.number, str(error), name)
    if isinstance(error, InputError):
        return HostEnd(error.status, 0, str(error), name)
    message = first_line(f"{type(error).__name__}: {error}")
    return HostEnd(UNFORESEEN_STATUS, 0, message, name)


def explain_end(index: int, end: HostEnd, own: BaseException | None = None) -> BaseException:
    """Make the exception that stands for another host's end.

    Args:
        index: index of the other host.
        end: how it ended.
        own: the error that ends this host. If a signal has stopped both, what this host has saved
            is still told.
    """
    if end.signal:
        return Stopped(end.signal, own.find_text() if isinstance(own, Stopped) else "")
    text = f"host {index} ({end.name}): {end.message}"
    return RetryError(text) if end.status == RETRY_STATUS else InputError(text)


def is_broken_connection(error: BaseException) -> bool:
    """Tell whether an error may be the end of another host, as XLA reports it."""
    kinds: tuple[type[Any], ...] = (RuntimeError, ValueError)
    known = isinstance(error, InputError) or not isinstance(error, kinds)
    return not known and bool(_BROKEN.search(str(error)))
