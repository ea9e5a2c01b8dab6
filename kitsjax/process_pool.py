"""Map a function over cases in worker processes; a failure stays with its case.

Workers are spawned, not forked: a fork would inherit JAX's threads half alive.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from kitsjax.errors import InputError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that the libraries behind NumPy read when they are loaded."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_cases(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    description: str,
    progress: bool = True,
    isolated: bool = False,
) -> Iterator[tuple[Item, Result | InputError]]:
    """Yield each item with its result, or with the InputError that it raised, as they finish.

    Any other exception is raised here. It cancels the items that have not begun, as does closing
    the iterator.

    Args:
        function: called with one item. It, the items and the results must pickle.
        items: the cases; may be empty.
        workers: number of processes; 0: one per core. For a single worker or item the function
            runs in this process.
        description: text before the progress bar, which is shown only if there are items.
        progress: show the bar.
        isolated: start a process even for a single worker or item.

    Raises:
        InputError: A worker was killed; the remaining items have no result.
    """
    workers = min(workers or cores(), len(items))
    spawn = workers > 1 or (isolated and workers == 1)
    results = _in_processes(function, items, workers) if spawn else _in_turn(function, items)
    hidden = not (progress and items)
    try:
        yield from tqdm(results, description, len(items), unit="case", disable=hidden)
    except BrokenProcessPool:
        raise InputError(
            f"{description}: a worker process was killed, most likely for lack of memory; run "
            "again with fewer workers (in a script of your own: under if __name__ == '__main__')"
        ) from None


def _in_turn(
    function: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[tuple[Item, Result | InputError]]:
    for item in items:
        yield item, _caught(function, item)


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result | InputError]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
        try:
            with _cores_shared_by(workers):
                jobs = {pool.submit(_caught, function, item): item for item in items}
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        finally:
            pool.shutdown(cancel_futures=True)


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


def _end_with_parent() -> None:
    """End a worker when its parent has ended, even if it was killed and left its pool open.

    Ctrl-C reaches all processes of a terminal: the parent tells the user, a worker just ends. If
    the parent ignores it, as a script's background jobs do, both go on.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _caught(function: Callable[[Item], Result], item: Item) -> Result | InputError:
    try:
        return function(item)
    except InputError as error:
        return error


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
