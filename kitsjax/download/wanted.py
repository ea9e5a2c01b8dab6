"""One wanted file: where it is or will be, its test if it is there, and the address that has it."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kitsjax.data.kits import is_case_name
from kitsjax.download.catalog import DataSet, Published, case_name, list_published
from kitsjax.download.client import Client
from kitsjax.download.faults import DownloadError
from kitsjax.download.manifest import Entry
from kitsjax.download.request import Remote
from kitsjax.download.transfer import Report, fetch, partial_path, size_of, sum_file
from kitsjax.errors import InputError
from kitsjax.image.file_format import find_nifti, list_folder
from kitsjax.image.read_nifti import check_whole
from kitsjax.input_file import check_is_folder, describe_absence, reading

_AGAIN = "move it away to download it again"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Wanted:
    """A file that was asked for.

    Attributes:
        file: what is published.
        path: where it is, or will be.
        name: its path within the data folder, with forward slashes.
        there: whether it is there, or anything else that is in its way.
    """

    file: Published
    path: Path
    name: str
    there: bool


def list_wanted(output: Path, data_set: DataSet, cases: Sequence[int]) -> list[Wanted]:
    """List the files of cases, case by case.

    As everywhere, case folders and files are found without regard to case, and an unpacked .nii
    counts as well.
    """
    with reading(output):
        folders = {p.name.lower(): p for p in list_folder(output) if is_case_name(p.name)}
        wanted = []
        for case in cases:
            folder = folders.get(case_name(case), output / case_name(case))
            for file in list_published(data_set, case):
                path, there = _find(folder, file.stem)
                wanted.append(Wanted(file, path, path.relative_to(output).as_posix(), there))
    return wanted


def check_wanted(known: Mapping[str, Entry], wanted: Wanted) -> Entry:
    """Test a file that is there, by the size and sum of its download, or else as a whole NIfTI.

    Args:
        known: entries of the list by name.
        wanted: the file.

    Raises:
        InputError: It has changed, is damaged or may not be read; or something else is in its way.
    """
    check_is_folder(wanted.path.parent, "is missing", _AGAIN)
    with reading(wanted.path):
        # Opening a pipe would wait forever.
        if problem := describe_absence(wanted.path):
            raise InputError(f"{problem}; {_AGAIN}")
        size = wanted.path.stat().st_size
        sha256 = sum_file(wanted.path)
    entry = known.get(wanted.name)
    if entry and (entry.size, entry.sha256) != (size, sha256):
        raise InputError(
            f"has changed since it was downloaded: {size} bytes of SHA-256 {sha256[:12]}..., not "
            f"{entry.size} of {entry.sha256[:12]}...; {_AGAIN}"
        )
    if entry:
        return entry
    try:
        check_whole(wanted.path)
    except InputError as error:
        reason = str(error).removeprefix(f"{wanted.path}: ")
        raise InputError(f"{reason}; {_AGAIN}") from None
    return Entry(size=size, sha256=sha256, url="")


def describe_first(client: Client, wanted: Wanted) -> Remote:
    """Ask what a file is, at the first of its addresses that answers.

    Raises:
        DownloadError: None does.
    """
    return _first_of(wanted, wanted.file.urls, client.describe)


def fetch_first(
    client: Client, known: Mapping[str, Entry], report: Report, item: tuple[Wanted, Remote]
) -> Entry:
    """Download a file from where it was described, or else from its next addresses.

    Raises:
        DownloadError: No address gives it whole.
        DiskError: The disk is full or broken.
        InputError: It cannot be written, or another file is in its place by now.
    """
    wanted, remote = item
    entry = known.get(wanted.name)

    def attempt(url: str) -> Entry:
        source = remote if url == remote.url else client.describe(url)
        # Another place may have packed the same voxels otherwise.
        same = entry if entry and entry.url == url else None
        return fetch(client, source, wanted.path, report, same)

    urls = wanted.file.urls
    return _first_of(wanted, urls[urls.index(remote.url) :], attempt)


def check_room(output: Path, files: Sequence[tuple[Wanted, Remote]]) -> None:
    """Check before the download that the disk has room for what is missing.

    Raises:
        InputError: It has not.
    """
    missing = sum(remote.size or 0 for _, remote in files) - bytes_there(files)
    free = shutil.disk_usage(output).free
    if missing > free:
        raise InputError(
            f"{output}: {missing / 1e9:.2f} GB are to be downloaded, and {free / 1e9:.2f} GB are "
            "free; free the disk, ask for fewer with --cases, or choose another folder with "
            "--output"
        )


def bytes_there(files: Sequence[tuple[Wanted, Remote]]) -> int:
    """Return how many bytes of these files an earlier download has left."""
    return sum(size_of(partial_path(wanted.path, remote)) for wanted, remote in files)


def _find(folder: Path, stem: str) -> tuple[Path, bool]:
    """Return where a case's file is or will be, and whether anything is there or in its way."""
    path = folder / f"{stem}.nii.gz"
    try:
        if found := find_nifti(folder, stem):
            return found, True
        path.lstat()
    except FileNotFoundError:
        # In place of the folder a link may lead nowhere.
        return path, folder.is_symlink() and not folder.exists()
    except OSError:
        # The folder may not be read, or is a file.
        pass
    # The test of the file tells what is there.
    return path, True


def _first_of(wanted: Wanted, urls: Sequence[str], attempt: Callable[[str], Result]) -> Result:
    problems = []
    for url in urls:
        try:
            return attempt(url)
        except DownloadError as error:
            problems.append(str(error))
    problems += [wanted.file.otherwise] if wanted.file.otherwise else []
    raise DownloadError("; ".join(problems))
