"""Map a function over cases in worker processes; a failure or a note stays with its case.

Workers are spawned, not forked: a fork would inherit JAX's threads half alive.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from logging.handlers import QueueHandler
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn, TypeVar

from tqdm import tqdm

from kitsjax.cores import cores
from kitsjax.errors import InputError, UnforeseenError
from kitsjax.failures import catch
from kitsjax.signals import STOPPED_STATUSES, ignore_signals

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that the libraries behind NumPy read when they are loaded."""

KILLED = (
    "its worker process was killed, most likely for lack of memory; run it again with fewer "
    "workers, or where there is more memory"
)

GRACE_S = 5
"""Seconds that a worker has to remove its unfinished files when a signal ends it."""

_ending = threading.Event()
"""Set in a worker that a signal ends."""

Item = TypeVar("Item")
Result = TypeVar("Result")
_Answer = tuple[Result | InputError, list[logging.LogRecord]]
"""What a worker returns for an item: the result, and what was logged meanwhile."""


def map_cases(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    description: str,
    progress: bool = True,
    isolated: bool = False,
) -> Iterator[tuple[Item, Result | InputError]]:
    """Yield each item with its result, or with the error that it raised, as they finish.

    An exception of any class stays with its item, as `failures.catch` returns it. So does the
    death of a worker: the items that it may have held are run again, each in a process of its own,
    and only those that kill this one too have failed. What a worker logs is logged here, item by
    item. Closing the iterator cancels the items that have not begun.

    Args:
        function: called with one item. It, the items and the results must pickle.
        items: the cases; may be empty.
        workers: number of processes; 0: one per core. For a single worker or item the function
            runs in this process.
        description: text before the progress bar, which is shown only if there are items.
        progress: show the bar.
        isolated: start a process even for a single worker or item.

    Raises:
        InputError: Worker processes cannot be started.
    """
    workers = min(workers or cores(), len(items))
    spawn = workers > 1 or (isolated and workers == 1)
    results = _in_processes(function, items, workers) if spawn else _in_turn(function, items)
    hidden = not (progress and items)
    yield from tqdm(results, description, len(items), unit="case", disable=hidden)


def _in_turn(
    function: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[tuple[Item, Result | InputError]]:
    for item in items:
        yield item, catch(function, item)


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result | InputError]]:
    """Run a pool; after a worker's death, run what it may have held alone, the rest as before."""
    while items:
        unfinished = dict(enumerate(items))
        for index, result in _in_pool(function, items, workers):
            yield unfinished.pop(index), result
        rest = list(unfinished.values())
        # A pool takes its items in order, so these are all that had begun.
        for item in rest[:workers]:
            alone = [result for _, result in _in_pool(function, [item], 1)]
            yield item, alone[0] if alone else UnforeseenError(KILLED)
        items = rest[workers:]


def _in_pool(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[int, Result | InputError]]:
    """Yield index and result of the items that finish; if a worker is killed, the others do not."""
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    jobs: dict[Future[_Answer[Result]], int] = {}
    with ProcessPoolExecutor(workers, context, _begin_worker, (started,)) as pool:
        try:
            with _cores_shared_by(workers):
                for index, item in enumerate(items):
                    jobs[pool.submit(_call, function, item)] = index
        except BrokenProcessPool:
            pass
        try:
            for job in as_completed(jobs):
                if not isinstance(job.exception(), BrokenProcessPool):
                    yield jobs[job], catch(_receive, job)
        except BaseException:
            # A signal, or the iterator is closed: what is running ends now, too.
            _terminate(list(pool._processes.values()))
            pool.shutdown(cancel_futures=True)
            raise
    if not started.is_set():
        raise InputError(
            "worker processes cannot be started; in a script of your own, call this under "
            "if __name__ == '__main__'"
        )


def _terminate(workers: Sequence[BaseProcess]) -> None:
    """End workers; kill those that take longer than `GRACE_S` to remove their unfinished files."""
    for worker in workers:
        worker.terminate()
    for worker in workers:
        if not wait([worker.sentinel], GRACE_S):
            worker.kill()


@contextmanager
def _cores_shared_by(workers: int) -> Iterator[None]:
    """Limit NumPy in the processes started meanwhile to their share of the cores.

    Otherwise each would start one thread per core, and they would wait for each other.
    """
    share = max(1, cores() // workers)
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    try:
        for name, value in before.items():
            fewer = value is not None and value.isdigit() and 0 < int(value) < share
            os.environ[name] = value if fewer and value else str(share)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin_worker(started: Event) -> None:
    """Prepare a worker: signals end it silently, and so does its parent's end.

    Ctrl-C reaches all processes of a terminal: the parent tells the user, a worker just ends. If
    the parent ignores it, as a script's background jobs do, both go on.
    """
    signal.signal(signal.SIGTERM, _end_worker)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end_worker)

    def watch() -> None:
        # The handlers run in the main thread, which only a signal of its own wakes.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    started.set()


def _end_worker(number: int, _: FrameType | None) -> NoReturn:
    """End a worker by an exception, so that the files it was writing are removed."""
    # Ctrl-C comes from the terminal, and SIGTERM then from the parent: one exception is enough.
    ignore_signals()
    _ending.set()
    sys.exit(STOPPED_STATUSES[signal.Signals(number)])


def _call(function: Callable[[Item], Result], item: Item) -> _Answer[Result]:
    """Call the function in a worker."""
    if _ending.is_set():
        # The pool has caught the exception of the signal, which came between two items.
        os._exit(1)
    logger = logging.getLogger("kitsjax")
    records: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler = QueueHandler(records)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        result = catch(function, item)
    except SystemExit as ended:
        # The pool would give this worker its next item.
        os._exit(ended.code if isinstance(ended.code, int) else 1)
    finally:
        logger.removeHandler(handler)
    return result, [records.get() for _ in range(records.qsize())]


def _receive(job: Future[_Answer[Result]]) -> Result:
    """Log here what a worker logged, and return the result or raise the error of its job."""
    result, records = job.result()
    for record in records:
        logging.getLogger(record.name).handle(record)
    if isinstance(result, InputError):
        raise result
    return result
