"""Download the cases of a data set: what is missing, several files at once, and nothing twice."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from kitsjax.download.catalog import DataSet, case_name
from kitsjax.download.client import Client
from kitsjax.download.manifest import MANIFEST_NAME, Entry, read_manifest, write_manifest
from kitsjax.download.request import Remote
from kitsjax.download.transfer import DiskError
from kitsjax.download.wanted import (
    Wanted,
    bytes_there,
    check_room,
    check_wanted,
    describe_first,
    fetch_first,
    list_wanted,
)
from kitsjax.errors import InputError, name_first
from kitsjax.failures import catch, describe_failure
from kitsjax.files import check_folder
from kitsjax.run_lock import lock_folder

_logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Downloaded:
    """What a download came to.

    Attributes:
        output: the data folder.
        there: number of files that were there before and are whole.
        new: number of files that were downloaded.
        failures: names of the files that are not whole, by the reason.
    """

    output: Path
    there: int = 0
    new: int = 0
    failures: dict[str, list[str]] = field(default_factory=dict)

    def describe_failures(self) -> list[str]:
        """Write a line for each reason of a failure, with the first of its files."""
        lines = []
        for reason, names in self.failures.items():
            told = reason.startswith(names[0])
            lines.append(reason if told else f"{name_first(names, 1)}: {reason}")
        return lines


def download(
    output: str | Path,
    data_set: DataSet,
    cases: Sequence[int],
    workers: int = 4,
    client: Client | None = None,
) -> Downloaded:
    """Test the files of cases that are in a folder, and download those that are missing.

    Args:
        output: the data folder, which gets a folder for each case; made if it does not exist.
        data_set: what to download.
        cases: numbers of its cases.
        workers: number of files at once.
        client: asks the servers.

    Raises:
        InputError: The folder cannot be written, has too little room or holds another data set, or
            another process writes to it.
    """
    output, client = Path(output), client or Client()
    check_folder(output, "--output", [MANIFEST_NAME])
    _note_known(data_set, cases)
    done = Downloaded(output)
    with lock_folder(output), _threads(workers, client.stop) as pool:
        manifest = read_manifest(output, data_set.name)
        wanted = list_wanted(output, data_set, cases)

        def keep(item: Wanted, result: Entry | InputError) -> bool:
            """Keep what is known of a file that is whole, or why it is not."""
            if isinstance(result, InputError):
                _add_failure(done, item, result)
                return False
            if manifest.files.get(item.name) != result:
                manifest.files[item.name] = result
                write_manifest(output, manifest)
            return True

        there = [item for item in wanted if item.there]
        for item, entry in _each(pool, partial(check_wanted, manifest.files), there, "test"):
            done.there += keep(item, entry)
        files = _describe_missing(pool, client, [item for item in wanted if not item.there], done)
        check_room(output, files)
        with _byte_bar(files) as report:
            get = partial(fetch_first, client, manifest.files, report)
            for (item, _), entry in _each(pool, get, files):
                done.new += keep(item, entry)
    return done


def _describe_missing(
    pool: ThreadPoolExecutor, client: Client, missing: Sequence[Wanted], done: Downloaded
) -> list[tuple[Wanted, Remote]]:
    """Ask the servers for the sizes and sums of files; what they do not have has failed."""
    files = {}
    for item, remote in _each(pool, partial(describe_first, client), missing, "ask"):
        if isinstance(remote, InputError):
            _add_failure(done, item, remote)
        else:
            files[item] = remote
    return [(item, files[item]) for item in missing if item in files]


def _add_failure(done: Downloaded, item: Wanted, error: InputError) -> None:
    """Add a failure; one of the disk ends the whole download, because all others would follow."""
    if isinstance(error, DiskError):
        raise error
    reason = describe_failure(error, item.name, done.output)
    done.failures.setdefault(reason, []).append(item.name)


def _note_known(data_set: DataSet, cases: Sequence[int]) -> None:
    """Log what is known to be wrong with the cases."""
    for case in cases:
        if problem := data_set.problems.get(case):
            _logger.warning("%s: %s", case_name(case), problem)
    if hidden := [case for case in cases if case in data_set.unlabelled]:
        _logger.warning(
            "%s: the labels of %s's test cases are not public; training needs labels, so keep "
            "these cases in a folder of their own",
            name_first(hidden, 1, case_name), data_set.name,
        )  # fmt: skip


@contextmanager
def _threads(workers: int, stop: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads. An exception sets `stop`, and does not wait for the threads."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(wait=not stop.is_set(), cancel_futures=True)


def _each(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    description: str = "",
) -> Iterator[tuple[Item, Result | InputError]]:
    """Yield each item with its result or its error, as they finish, with a bar if it has a name."""
    futures = {pool.submit(catch, function, item): item for item in items}
    hidden = not (items and description)
    for future in tqdm(as_completed(futures), description, len(items), unit="file", disable=hidden):
        yield futures[future], future.result()


@contextmanager
def _byte_bar(files: Sequence[tuple[Wanted, Remote]]) -> Iterator[Callable[[int], None]]:
    """Show a bar of bytes, and yield what threads tell the bytes that have arrived."""
    lock = threading.Lock()
    total = sum(remote.size or 0 for _, remote in files)
    with tqdm(
        desc="download", total=total, initial=bytes_there(files), unit="B", unit_scale=True,
        disable=not files,
    ) as bar:  # fmt: skip

        def report(count: int) -> None:
            with lock:
                bar.update(count)

        yield report
