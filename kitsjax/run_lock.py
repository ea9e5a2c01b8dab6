"""The lock of a run folder: one process at a time writes to it.

The lock is the file `lock.json`, which says whose it is. Its time of change is a heartbeat: the
owner sets it anew every few seconds. A lock is stale if its owner has ended without removing it:
on this machine the system knows, of another machine a heartbeat that has stopped tells.
"""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from kitsjax.errors import InputError, RetryError
from kitsjax.files import atomic_write, move_new, remove_leftovers, temporary_beside
from kitsjax.processes import host_name, is_running, machine_id, process_start

LOCK_NAME = "lock.json"

BEAT_SECONDS = 10.0
"""Time between two heartbeats."""

STALE_SECONDS = 180.0
"""A lock of another machine is stale when its last heartbeat is older than this."""

RELEASE_SECONDS = 10.0
"""A process that ends within the block waits no longer for the disk that holds its lock."""

_logger = logging.getLogger(__name__)


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[Callable[[], None]]:
    """Hold a folder for this process until the end of the block.

    The folder is made, and temporary files that a killed process left in it are removed. The block
    gets a function that removes the lock, for a process that ends within the block.

    Raises:
        InputError: Another process, or another block of this one, holds the folder, or it cannot be
            written.
        RetryError: A process of another machine holds the folder, and may have died.
    """
    path = Path(folder) / LOCK_NAME
    text = _describe_owner()
    _acquire(path, text)
    ended = threading.Event()
    try:
        remove_leftovers(folder)
        threading.Thread(target=_beat, args=(path, text, ended), daemon=True).start()
        yield partial(_release_in_time, path, text)
    finally:
        ended.set()
        _release(path, text)


def _describe_owner() -> str:
    now = datetime.now().astimezone()
    return json.dumps(
        {
            "host": host_name(),
            "machine": machine_id(),
            "process": os.getpid(),
            "start": process_start(os.getpid()),
            "since": now.isoformat(sep=" ", timespec="microseconds"),
        },
        indent=1,
    )


def _acquire(path: Path, text: str) -> None:
    """Write the lock, or take a stale one over.

    Only who holds a second lock, which is named after the stale one, may replace that. So of two
    processes that find the same stale lock, one takes it over. If that one is killed meanwhile,
    its second lock is a stale lock itself.
    """
    while True:
        with temporary_beside(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
            if move_new(temporary, path):
                return
            now = temporary.stat().st_mtime
        found = _read(path)
        if found is None:
            # Its owner has just ended.
            continue
        _require_stale(path, found, now)
        second = path.with_name(
            f"{path.stem}-{hashlib.sha256(found.encode()).hexdigest()[:8]}.json"
        )
        _acquire(second, text)
        try:
            if _read(path) == found:
                with atomic_write(path) as temporary:
                    temporary.write_text(text, encoding="utf-8")
                _logger.warning(
                    "%s: its run ended without removing it; this run takes it over", path
                )
                return
        finally:
            _release(second, text)


def _require_stale(path: Path, text: str, now: float) -> None:
    """Refuse if the owner of a lock may still run.

    Args:
        path: the lock.
        text: its content.
        now: the time by the clock of the disk that holds it, seconds.

    Raises:
        InputError: It runs on this machine.
        RetryError: It may run on another one.
    """
    owner = _parse(text)
    here = (owner.get("host"), owner.get("machine")) == (host_name(), machine_id())
    process, start = owner.get("process"), str(owner.get("start", ""))
    if here and isinstance(process, int) and process > 0:
        stale, until = not is_running(process, start), "wait until it ends"
    else:
        try:
            stale = now - path.stat().st_mtime > STALE_SECONDS
        except FileNotFoundError:
            stale = True
        until = (
            f"wait until it ends; if it has been killed, start again in {STALE_SECONDS / 60:.0f} "
            f"minutes or remove {path.name}"
        )
    if not stale:
        whose = f"{path.name} cannot be read, so another run may be writing there"
        if owner:
            host, since = owner.get("host"), str(owner.get("since"))[:19]
            whose = f"process {process} on {host} has been writing there since {since}"
        # Another machine may just have died: a scheduler that starts the run again takes over soon.
        refusal = InputError if here else RetryError
        raise refusal(f"{path.parent}: {whose}; {until}, or choose another folder")


def _beat(path: Path, text: str, ended: threading.Event) -> None:
    """Set the lock's time of change anew until `ended`, as long as the lock is this block's own."""
    while not ended.wait(BEAT_SECONDS):
        if _read(path) not in (text, ""):
            _logger.warning(
                "%s: this run's lock has gone; another run may write there", path.parent
            )
            return
        with suppress(OSError):
            os.utime(path)


def _release(path: Path, text: str) -> None:
    with suppress(OSError):
        if _read(path) == text:
            path.unlink()


def _release_in_time(path: Path, text: str) -> None:
    """Release a lock, but wait no longer than `RELEASE_SECONDS` for it.

    A process may end because its disk does not answer, which would hold up the end as well.
    """
    thread = threading.Thread(target=_release, args=(path, text), daemon=True)
    thread.start()
    thread.join(RELEASE_SECONDS)


def _read(path: Path) -> str | None:
    """Read a lock; None if there is none, empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _parse(text: str) -> dict[str, Any]:
    """Return the record of a lock; empty if it is damaged."""
    try:
        record = json.loads(text)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
