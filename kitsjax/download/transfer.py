"""Download one file: beside its place, from where an earlier try ended, checked, then renamed.

The unfinished file is hidden and named after the version of the file on the server, so that bytes
of two versions never meet. It outlives an interruption: the next run goes on from its end.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kitsjax.download.client import Client
from kitsjax.download.faults import DownloadError, Transient
from kitsjax.download.manifest import MANIFEST_NAME, Entry
from kitsjax.download.request import Remote, open_remote
from kitsjax.errors import InputError, first_line
from kitsjax.image.file_format import ADVICE, GZIP, read_start, tell_format
from kitsjax.image.read_nifti import check_whole

WHOLE_TRIES = 2
"""How often a file is downloaded whole if it arrives damaged."""

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Error numbers of a disk that is full or broken, which no other file can be written to either."""

Report = Callable[[int], None]
"""Is told the number of bytes that arrived, or minus those that were thrown away."""


class DiskError(InputError):
    """The disk is full or broken: no other file can be downloaded either."""


def fetch(
    client: Client,
    remote: Remote,
    path: Path,
    report: Report = lambda count: None,
    known: Entry | None = None,
) -> Entry:
    """Download a file and return its size and sum.

    Args:
        client: asks the server.
        remote: the file as the server described it.
        path: where it goes; its folder is made.
        report: see `Report`.
        known: size and sum of an earlier download from the same address, which it must have again.

    Raises:
        DownloadError: It cannot be had, or is damaged each time; nothing is at `path`.
        DiskError: The disk is full or broken.
        InputError: It cannot be written, or another file is at `path` by now, which stays.
    """
    beside = partial_path(path, remote)
    for last in [False] * (WHOLE_TRIES - 1) + [True]:
        client.retry(remote.url, _Transfer(client, remote, beside, report).run)
        try:
            entry = _check(beside, remote, known)
        except DownloadError:
            with _writing(beside):
                report(-beside.stat().st_size)
                beside.unlink()
            if last:
                raise
            continue
        with _writing(path):
            # Not `move_new`: where a disk has no links, it copies, and a kill would leave half.
            appeared = os.path.lexists(path)
            if not appeared:
                beside.replace(path)
            for other in path.parent.glob(f".{path.name}.*.part"):
                other.unlink()
        if appeared:
            raise InputError(f"{path}: appeared during the download and stays; run it again")
        return entry
    raise AssertionError


def partial_path(path: Path, remote: Remote) -> Path:
    """Return where the unfinished file of this version is."""
    key = hashlib.sha256(f"{remote.url} {remote.version} {remote.size}".encode()).hexdigest()
    return path.with_name(f".{path.name}.{key[:16]}.part")


def size_of(path: Path) -> int:
    """Return a file's size in bytes; 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def sum_file(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Transfer:
    """The tries to bring an unfinished file to its end."""

    def __init__(self, client: Client, remote: Remote, beside: Path, report: Report) -> None:
        self._client, self._remote = client, remote
        self._beside, self._report = beside, report
        # Without size and version a server cannot be asked for the rest: it may be another file's.
        self._resumable = remote.size is not None and remote.version != ""
        self._farthest = size_of(beside)

    def run(self) -> None:
        """Receive what is missing.

        Raises:
            Transient: Bytes are still missing, or the server contradicts itself.
            DownloadError, DiskError, InputError: see `fetch`.
        """
        done = size_of(self._beside)
        if self._resumable and 0 < done == self._remote.size:
            return
        try:
            with _writing(self._beside):
                self._receive(done)
        except Transient as fault:
            done = size_of(self._beside)
            fault.gained = done > self._farthest
            self._farthest = max(self._farthest, done)
            raise

    def _receive(self, done: int) -> None:
        """Ask for the rest of the file, of which `done` bytes are there, and append it."""
        remote = self._remote
        start = done if self._resumable else 0
        with open_remote(remote.url, self._client.timeout_s, start) as answer:
            same_size = answer.remote.size in (None, remote.size)
            if not same_size or answer.remote.version != remote.version:
                raise Transient(
                    f"the server announces {answer.remote.size} bytes of version "
                    f"{answer.remote.version}, and before {remote.size} of {remote.version}"
                )
            self._beside.parent.mkdir(parents=True, exist_ok=True)
            self._report(answer.start - done)
            with self._beside.open("ab" if answer.start else "wb") as file:
                position = answer.start
                while piece := answer.pieces():
                    self._client.check_stop(remote.url)
                    position += len(piece)
                    if remote.size is not None and position > remote.size:
                        self._report(len(piece) - position)
                        file.truncate(0)
                        raise Transient(f"more than the announced {remote.size} bytes came")
                    file.write(piece)
                    self._report(len(piece))
        if remote.size is not None and position < remote.size:
            raise Transient(f"the connection broke after {position} of {remote.size} bytes")


def _check(beside: Path, remote: Remote, known: Entry | None) -> Entry:
    """Check a file that has arrived: its sum if one is known, and that it is a whole NIfTI file."""
    entry = Entry(size=size_of(beside), sha256=sum_file(beside), url=remote.url)
    if remote.sha256 and entry.sha256 != remote.sha256:
        raise DownloadError(
            f"{remote.url}: arrived damaged: its SHA-256 is {entry.sha256[:12]}..., and the "
            f"published one {remote.sha256[:12]}...; run it again later"
        )
    if known and (entry.size, entry.sha256) != (known.size, known.sha256):
        raise DownloadError(
            f"{remote.url}: is not the file that was downloaded before: its SHA-256 is "
            f"{entry.sha256[:12]}..., and was {known.sha256[:12]}...; if it was published anew, "
            f"remove its entry from {MANIFEST_NAME}"
        )
    name = tell_format(read_start(beside))
    if name != GZIP:
        advice = ADVICE.get(name, "run it again later")
        raise DownloadError(f"{remote.url}: the server sends no packed NIfTI ({name}); {advice}")
    try:
        check_whole(beside)
    except InputError as error:
        reason = str(error).removeprefix(f"{beside}: ")
        raise DownloadError(f"{remote.url}: {reason}") from None
    return entry


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the disk's refusal into one line; errors of the network are none of the system's."""
    try:
        yield
    except OSError as error:
        problem = f"{path}: cannot write ({first_line(error)})"
        if error.errno in _DISK_ERRORS:
            raise DiskError(
                f"{problem}; free the disk or choose another folder with --output"
            ) from None
        raise InputError(f"{problem}; make its folder writable, or move it away") from None
