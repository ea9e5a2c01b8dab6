"""Work ahead in threads, with a bound: what is read and computed before it is asked for.

An end by a signal waits for none of these threads, since a read may hang. They are no daemon
threads: one that is stopped within a library may keep its lock, for which that library waits at the
end of the process. `command.exit_with` waits for neither.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

from kitsjax.errors import InputError
from kitsjax.failures import catch

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOOK_SECONDS = 0.5
"""Between two looks at whether the process ends."""


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 1
) -> Iterator[Result | InputError]:
    """Call a function for each item in a thread of its own; yield the results in the items' order.

    An exception takes the place of the result, as `failures.catch` returns it.

    Args:
        function: what to call.
        items: its arguments; each is taken when its call can begin.
        ahead: so many calls at most are begun whose results are not used yet.
    """
    begun: deque[Future[Result | InputError]] = deque()
    for item in items:
        ready = [begun.popleft().result()] if len(begun) == ahead else []
        begun.append(_begin(function, item))
        yield from ready
    while begun:
        yield begun.popleft().result()


def iterate_ahead(items: Iterable[Item], ahead: int) -> Iterator[Item]:
    """Iterate in a thread, so many items ahead of the one that is used; at least one.

    An exception of the iterable is raised when its turn comes. The thread ends after its present
    item when the iterator is closed, or when the main thread has ended.
    """
    done: SimpleQueue[Future[Item] | None] = SimpleQueue()
    free, closed = threading.Semaphore(ahead - 1), threading.Event()

    def work() -> None:
        try:
            for item in items:
                done.put(_finished(item))
                if not _wait_for_turn(free) or closed.is_set():
                    return
        except BaseException as error:
            failed: Future[Item] = Future()
            failed.set_exception(error)
            done.put(failed)
        done.put(None)

    threading.Thread(target=work).start()
    try:
        while (future := done.get()) is not None:
            free.release()
            yield future.result()
    finally:
        closed.set()
        free.release()


def _wait_for_turn(free: threading.Semaphore) -> bool:
    """Wait until the next item may be made; False: the process ends, which waits for this thread.

    Python keeps the traceback of an exception that nobody caught, and with it an iterator that is
    then never closed.
    """
    while not free.acquire(timeout=_LOOK_SECONDS):
        if not threading.main_thread().is_alive():
            return False
    return True


def _begin(function: Callable[[Item], Result], item: Item) -> Future[Result | InputError]:
    future: Future[Result | InputError] = Future()

    def work() -> None:
        try:
            future.set_result(catch(function, item))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work).start()
    return future


def _finished(item: Item) -> Future[Item]:
    future: Future[Item] = Future()
    future.set_result(item)
    return future
