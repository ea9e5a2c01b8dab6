"""Write files atomically: no output is ever left half written."""

import errno
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kitsjax.errors import InputError
from kitsjax.processes import host_name, is_running, machine_id

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
"""Error numbers of disks that have no hard links."""

_LONGEST_KEPT = 40
"""Number of characters at the end of a name that its temporary name keeps."""

_TEMPORARY = re.compile(r"\.(?P<host>.+)-(?P<process>\d+)-[0-9a-f]{8}\.partial\.", re.DOTALL)

_unfinished: set[Path] = set()
"""The temporary paths of this process, in all of its threads."""

LEFTOVER_SECONDS = 24 * 3600
"""A temporary file of a process that cannot be asked is left over when it is older than this."""


@contextmanager
def temporary_beside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and remove it at the end.

    The folder is made. The temporary path may become a file or a folder; no other process or thread
    has the same one. It keeps the suffixes of `path`, since writers choose the format by them.

    Raises:
        InputError: The folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    owner = f"{host_name()}-{machine_id()}-{os.getpid()}"
    kept = path.name[-_LONGEST_KEPT:]
    beside = path.with_name(f".{owner}-{secrets.token_hex(4)}.partial.{kept}")
    _unfinished.add(beside)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
    except OSError as error:
        raise InputError(
            f"{path}: cannot write ({error.strerror or error}); free the disk or choose another "
            "folder that is writable"
        ) from None
    finally:
        _remove(beside)
        _unfinished.discard(beside)


def remove_unfinished() -> None:
    """Remove the temporary files of this process, which ends without waiting for its threads."""
    for path in tuple(_unfinished):
        _remove(path)


@contextmanager
def atomic_write(path: str | Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to `path` on success.

    The path may become a file or a folder. On an exception `path` is as it was. Of two processes
    that write the same path at once, the later one replaces what the earlier one wrote.

    Args:
        path: the file or folder.
        sync: see `sync_file`, which is called with the file before it is renamed.

    Raises:
        InputError: The folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    with temporary_beside(path) as temporary:
        yield temporary
        if not temporary.is_dir():
            if sync:
                sync_file(temporary)
            temporary.replace(path)
            return
        # A folder with content cannot be replaced at once: it is moved aside before.
        while not move_new(temporary, path):
            with temporary_beside(path) as aside, suppress(FileNotFoundError):
                path.rename(aside)


def sync_file(path: str | Path) -> None:
    """Wait until the content of a file is on the disk itself.

    A file that is renamed before that may be empty after a power failure. The call takes half a
    millisecond on an idle local disk, and seconds where much else must be written first. So it is
    for the few files that nothing can make again: run.json, the model file, records of checkpoints.
    """
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def move_new(temporary: Path, path: Path) -> bool:
    """Move a file or folder to `path` unless something is there, and return whether it was moved.

    Of several processes that move theirs to one path at once, exactly one is told True. A
    file's temporary path stays as a second name of it.
    """
    try:
        if temporary.is_dir():
            # An empty folder is replaced, which loses nothing; one with content is an error.
            temporary.rename(path)
        else:
            path.hardlink_to(temporary)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            # A network disk may have made the link and lost its answer.
            return temporary.is_file() and path.is_file() and temporary.samefile(path)
        if temporary.is_dir() or error.errno not in _NO_LINKS:
            raise
        return _copy_new(temporary, path)
    return True


def check_folder(folder: str | Path, setting: str, files: Iterable[str] = ()) -> None:
    """Check before any work that a folder can be made and written; leave nothing there.

    Args:
        folder: the folder; it need not exist.
        setting: what moves it, for the message: an option such as "--output", or a setting such
            as "data.cache".
        files: names of files that will be written there.

    Raises:
        InputError: A file has the folder's name, a folder has a file's name, a link leads nowhere,
            or the folder cannot be made or written.
    """
    folder = Path(folder)
    advice = f"choose another folder with {setting}"
    try:
        above = (folder, *folder.absolute().parents)
        nearest = next(path for path in above if path.exists() or path.is_symlink())
        if not nearest.exists():
            raise InputError(f"{nearest}: is a link that leads nowhere; {advice}")
        if not nearest.is_dir():
            raise InputError(f"{nearest}: is a file; {advice}")
        for path in map(folder.joinpath, files):
            if path.is_dir():
                raise InputError(f"{path}: is a folder, and a file will be written; {advice}")
        # Hidden, so that no other run takes it for data.
        with tempfile.TemporaryFile(prefix=".", dir=nearest) as file:
            # A full disk often still takes an empty file.
            file.write(bytes(4096))
    except OSError as error:
        raise InputError(f"{folder}: cannot write there ({error.strerror}); {advice}") from None


def check_file(path: str | Path, setting: str) -> None:
    """Check before any work that a file can be written; raises as `check_folder`."""
    path = Path(path)
    check_folder(path.parent, setting, [path.name])


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files and folders that killed processes left in a folder.

    Other processes may be writing to the folder, on this host or on another. A temporary file goes
    only if its process is known to have ended, or if it is a day old.
    """
    own_host = f"{host_name()}-{machine_id()}"
    for leftover in Path(folder).glob(".*.partial.*"):
        owner = _TEMPORARY.match(leftover.name)
        if owner and owner["host"] == own_host:
            ended = not is_running(int(owner["process"]))
        else:
            ended = False
        # Another process may have removed it meanwhile.
        with suppress(OSError):
            if ended or time.time() - leftover.lstat().st_mtime > LEFTOVER_SECONDS:
                _remove(leftover)


def write_text(path: str | Path, text: str, *, sync: bool = False) -> None:
    """Write a UTF-8 text file atomically; bytes of a file's name that are no UTF-8 are escaped.

    Args:
        path: the file.
        text: its content.
        sync: see `atomic_write`.
    """
    with atomic_write(path, sync=sync) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def remove_file(path: str | Path) -> None:
    """Remove a file if it is there.

    Raises:
        InputError: It cannot be removed; it is a folder, for instance.
    """
    try:
        Path(path).unlink(missing_ok=True)
    except NotADirectoryError:
        pass  # A file stands in the place of its folder, so it is not there.
    except OSError as error:
        raise InputError(f"{path}: cannot remove ({error.strerror}); move it away") from None


def _remove(path: Path) -> None:
    """Remove a file or a folder as far as the system lets it; there may be none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _copy_new(temporary: Path, path: Path) -> bool:
    """Copy a file to `path` unless something is there, on a disk without links."""
    try:
        file = path.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(temporary.read_bytes())
    except BaseException:
        # Half of it would be taken for the whole.
        _remove(path)
        raise
    return True
