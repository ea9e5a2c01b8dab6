"""Other processes on the same files: names and numbers, whether they run, how to share work."""

import hashlib
import os
import random
import re
import socket
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NoReturn, TypeVar

Item = TypeVar("Item")

Shard = tuple[int, int]
"""One of several equal shares of the work: its number from 0, and how many there are."""


def end_now(status: int) -> NoReturn:
    """End this process at once, without Python's clean-up, but with all that was printed.

    For a thread that ends the process, and for libraries that crash while they are unloaded.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        # Its reader may have gone, or another thread may be within a write.
        with suppress(OSError, ValueError, RuntimeError):
            stream.flush()
    os._exit(status)


@cache
def host_name() -> str:
    """Return the name of this host, with characters that a file name may have; at most 32."""
    return re.sub(r"[^\w.-]", "_", socket.gethostname(), flags=re.ASCII)[:32]


@cache
def machine_id() -> str:
    """Return 8 hexadecimal digits for this boot of this machine and its PID namespace.

    A process id names a process only within them: hosts may share a name, and a container may have
    the name of its host.
    """
    parts = []
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text(),
        lambda: os.readlink("/proc/self/ns/pid"),
    ):
        try:
            parts.append(read().strip())
        except OSError:
            # Systems other than Linux have neither; there the host's name has to do.
            parts.append("")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def own_order(items: Iterable[Item]) -> list[Item]:
    """Return the items in an order that each process has for itself.

    Processes that work through the same items, and skip what is done, then share the work. In the
    same order they would do all of it twice.
    """
    order = list(items)
    random.SystemRandom().shuffle(order)
    return order


def take_shard(items: Sequence[Item], shard: Shard) -> Sequence[Item]:
    """Return a shard's items: every n-th one, so that each item is in exactly one of n shards."""
    index, count = shard
    return items[index::count]


def process_start(process: int) -> str:
    """Return when a process of this machine began, in the kernel's clock ticks; "" if unknown."""
    return _state_and_start(process)[1]


def is_running(process: int, start: str = "") -> bool:
    """Check whether a process of this machine runs.

    Args:
        process: the process id.
        start: when it began, as `process_start` said; a later process with its id is another one.
            Empty: any process with that id.
    """
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        # It is another user's, and runs.
        pass
    state, began = _state_and_start(process)
    # A zombie has ended; its parent has not asked for its exit status yet.
    return state != "Z" and (not start or not began or start == began)


def _state_and_start(process: int) -> tuple[str, str]:
    try:
        # The name of the program, in brackets, may hold anything.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]
