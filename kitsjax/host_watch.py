"""The hosts of a run end together: none waits for another one that has stopped, failed or died.

Every host watches the others from a thread. Whoever ends says so in the key-value store; whoever
says nothing for `LOST_SECONDS` has died. Then the others end, too, each with one line.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import NoReturn, TypeVar

import jax

from kitsjax.errors import RETRY_STATUS, RetryError, first_line
from kitsjax.host_end import (
    AGAIN,
    UNFORESEEN_STATUS,
    HostEnd,
    describe_end,
    explain_end,
    is_broken_connection,
)
from kitsjax.hosts import coordination_client, host_count, host_index
from kitsjax.processes import end_now, host_name
from kitsjax.signals import ignore_signals, signal_self

Result = TypeVar("Result")

WATCH = "host watch"
"""Name of the thread that watches."""

LOST_SECONDS = 40.0
"""A host that gave no sign of life for so long has died."""

GRACE_SECONDS = 10.0
"""Time that the main thread has to end in order; it may hang in a program that waits for others."""

_BEAT_SECONDS, _LEAVE_SECONDS = 1.0, 30.0
_ALIVE, _ENDED = "kitsjax/alive/", "kitsjax/ended/"


class HostWatch:
    """The watch of one host over the others.

    Attributes:
        tidy: called before the process is ended at once, to release what others would wait for.
    """

    def __init__(self) -> None:
        self.tidy: Callable[[], None] = lambda: None
        self._client = coordination_client()
        self._own = host_index()
        self._others = [index for index in range(host_count()) if index != self._own]
        self._seen = {index: ("", time.monotonic(), "") for index in self._others}
        self._lost: set[int] = set()
        # Why this host ends, if it is because of another one.
        self._cause: tuple[int, HostEnd] | None = None
        self._found, self._left = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name=WATCH, daemon=True)
        # The thread that has it ends this process: the main thread, or the watch if that one hangs.
        self._ending = threading.Lock()

    def start(self) -> None:
        """Watch from a thread from now on."""
        self._thread.start()

    def leave(self, error: BaseException | None) -> BaseException | None:
        """Tell the others how this host ends, and wait until all of them end, too.

        Returns:
            What to raise: the error, or the one that stands for another host's end, which came
            first and is the cause. None: the work is done.
        """
        # The end is near, and its status is known.
        ignore_signals()
        self._ending.acquire()
        if self._cause is None and error is not None and is_broken_connection(error):
            # This computation broke because another host has ended; the watch finds out which.
            self._found.wait(LOST_SECONDS + GRACE_SECONDS)
            if self._cause is None:
                text = f"lost the connection to the other hosts ({first_line(error)}); {AGAIN}"
                error = RetryError(text)
        if self._cause is not None:
            error = explain_end(*self._cause, own=error)
        end = describe_end(error)
        if self._say_end(end):
            self._left.set()
            # A call of the client that still ran when JAX shuts it down would crash this process.
            self._thread.join(_LEAVE_SECONDS)
            if error is None:
                # Another host may have been stopped when this one's work was done already.
                self._look()
                error = explain_end(*self._cause) if self._cause else None
            jax.distributed.shutdown()
            return error
        # JAX's own shutdown would wait for the host that is lost, and then abort this one.
        if error is not None and end.status == UNFORESEEN_STATUS:
            traceback.print_exception(error)
        self._exit(end)

    def _watch(self) -> None:
        """Give signs of life and look for those of the others, once a second."""
        ending_since = 0.0
        for beat in range(2**62):
            if self._left.wait(_BEAT_SECONDS):
                return
            try:
                alive = json.dumps([beat, host_name()])
                self._client.key_value_set(f"{_ALIVE}{self._own}", alive, allow_overwrite=True)
                self._look()
            except jax.errors.JaxRuntimeError:
                # The first host, which has the store, is gone: JAX will notice within moments.
                continue
            if self._cause is None or self._ending.locked():
                continue
            if not ending_since:
                ending_since = time.monotonic()
                # The main thread ends as it would at a signal: files and workers are tidied up.
                signal_self(self._cause[1].signal or signal.SIGTERM)
            elif time.monotonic() - ending_since > GRACE_SECONDS and self._ending.acquire(False):
                end = describe_end(explain_end(*self._cause))
                with suppress(jax.errors.JaxRuntimeError):
                    if self._say_end(end):
                        jax.distributed.shutdown()
                self._exit(end)

    def _look(self) -> None:
        """Find out whether another host has ended or died."""
        ended, alive, now = self._read(_ENDED), self._read(_ALIVE), time.monotonic()
        for index in self._others:
            before, since, name = self._seen[index]
            if (beat := alive.get(index, "")) != before:
                self._seen[index] = (beat, now, json.loads(beat)[1])
            elif now - since > LOST_SECONDS and index not in ended:
                self._lost.add(index)
                text = f"gave no sign of life for {LOST_SECONDS:.0f} s, so it has died; {AGAIN}"
                self._blame(index, HostEnd(RETRY_STATUS, 0, text, name))
        for index, text in ended.items():
            end = HostEnd(**json.loads(text))
            if index != self._own and end.status:
                self._blame(index, end)

    def _blame(self, index: int, end: HostEnd) -> None:
        if self._cause is None:
            self._cause = index, end
            self._found.set()

    def _read(self, folder: str) -> dict[int, str]:
        entries = self._client.key_value_dir_get(folder)
        return {int(key.rpartition("/")[2]): value for key, value in entries}

    def _say_end(self, end: HostEnd) -> bool:
        """Tell the others how this host ends; return whether all of them end in time."""
        text, until = json.dumps(asdict(end)), time.monotonic() + _LEAVE_SECONDS
        self._client.key_value_set(f"{_ENDED}{self._own}", text, allow_overwrite=True)
        while len(self._lost | self._read(_ENDED).keys()) < host_count():
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return not self._lost

    def _exit(self, end: HostEnd) -> NoReturn:
        """End the process at once."""
        if end.message:
            print(end.message, file=sys.stderr, flush=True)
        if self._own == 0:
            # The others lose the store with this host, so they go first.
            time.sleep(2 * _BEAT_SECONDS)
        self.tidy()
        end_now(end.status)


def end_together(work: Callable[[HostWatch | None], Result]) -> Result:
    """Do the work as one of the hosts of a run, which end together.

    Where another host has stopped, failed or died, the work is ended, too, and what stands for that
    is raised. A single host only does the work.

    Args:
        work: gets the watch; None with a single host.

    Returns:
        What `work` returns.

    Raises:
        InputError: another host failed; the message says which one, and what it says.
        RetryError: another host has died.
        Stopped: a signal stopped another host.
    """
    if host_count() == 1:
        return work(None)
    watch = HostWatch()
    _explain_abort()
    watch.start()
    error: BaseException | None = None
    try:
        try:
            result = work(watch)
        except BaseException as raised:
            error = raised
            found = watch.leave(error)
        else:
            found = watch.leave(None)
    except KeyboardInterrupt as late:
        # The signal came after the work, but before `leave` ignored it. This is no context manager,
        # since nothing would catch a signal that comes as its `__exit__` is entered.
        found = watch.leave(error or late)
    if found is None:
        return result
    try:
        if found is error:
            raise found
        raise found from None
    finally:
        # An error holds this frame, which would hold it, and all the work's arrays.
        del error, found


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _on_abort(_: int) -> None:
    os.write(2, f"host 0, which all hosts need, has died; {AGAIN}\n".encode())
    os._exit(RETRY_STATUS)


def _explain_abort() -> None:
    """Say in a line why the process ends, and with a status, where JAX aborts it.

    It does so if the first host dies, and no exception can be caught. Python's own handlers of
    signals would never run.
    """
    if host_index():
        ctypes.CDLL(None).signal(signal.SIGABRT, _on_abort)
