"""Find the DICOM cases of a path, and the name that each has in messages and for its mask."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from kitsjax.dicom.image import DicomFile
from kitsjax.dicom.series import Series, choose_series, label_series, list_files, read_series

_logger = logging.getLogger(__name__)


def find_dicom(path: Path, label: str | None = None) -> list[tuple[Series, str]]:
    """List the DICOM cases at a path, each with its chosen series and a name for its mask.

    A file of several frames is a case, and so is a folder, with all folders in it. A folder that
    holds folders only has a case for each of them, unless all belong to one study. Of several
    series of a case one is chosen, and notes name all. Cases are named after their folder or file;
    a name with a word of the patient's name gives way to the study's UID, or to the series' where
    several cases are of one study. A folder of which no file can be read is a case that fails.

    Args:
        path: a file or folder.
        label: the number, UID or label of the series to choose; None: the most plausible one.

    Returns:
        The cases, sorted by path; none if there is no DICOM file. What is wrong with one is raised
        when it is read, so that the others go on.

    Raises:
        InputError: pydicom is not installed, or no file holds images.
    """
    files = list_files(path)
    if not files:
        return []
    cases: dict[Path, list[Series]] = {}
    series, damaged = read_series(files, str(path))
    for one in series:
        cases.setdefault(_case_folder(path, one), []).append(one)
    studies = {one.first.study for one in series}
    if path in cases or len(cases) == 1 or (len(studies) == 1 and "" not in studies):
        cases = {path: series}
    names = {folder: found[0].name(_named(folder)) for folder, found in cases.items()}
    given = list(names.values())
    for folder, name in names.items():
        if given.count(name) > 1 and name != folder.name:
            names[folder] = cases[folder][0].first.series or name
    chosen = [
        (_choose(label_series(found, _place(path, folder, names[folder])), label), names[folder])
        for folder, found in sorted(cases.items())
    ]
    return chosen if path in cases else [*chosen, *_find_lost(path, files, damaged)]


def _find_lost(
    path: Path, files: Sequence[Path], damaged: Sequence[Path]
) -> Iterator[tuple[Series, str]]:
    """Yield a series that says so for each folder in `path` of which no file can be read."""

    def top(file: Path) -> Path:
        return path / file.relative_to(path).parts[0]

    folders = sorted({top(file) for file in files})
    for number, folder in enumerate(folders, 1):
        inside = [file for file in files if top(file) == folder]
        if set(inside) <= set(damaged):
            # Its name may be the patient's, which only a file that can be read would tell.
            where = f"folder {number} of {len(folders)}"
            fault = f"{where} by name: none of its {len(inside)} DICOM files can be read"
            none = DicomFile(inside[0], "", "", "", "", "", "", (), (), "unreadable", frozenset())
            yield Series((none,), str(path), "", f"{fault}; get them again"), where


def _case_folder(path: Path, series: Series) -> Path:
    """Return the folder in `path` that holds a series; `path` itself if it holds files of it."""
    folders = {file.path.relative_to(path).parts[:-1][:1] for file in series.files}
    (name,) = folders if len(folders) == 1 else [()]
    return path.joinpath(*name)


def _place(path: Path, folder: Path, name: str) -> str:
    return str(path) if folder == path else str(path / name)


def _named(folder: Path) -> Path:
    """Return a path with a name, which "." has not; of a file without its suffix."""
    absolute = Path(os.path.abspath(folder))
    return absolute.with_suffix("") if absolute.is_file() else absolute


def _choose(series: Sequence[Series], label: str | None) -> Series:
    """Choose a series of a case; if there are several, log a note on each and on the choice."""
    chosen = choose_series(series, label)
    if len(series) > 1 and not chosen.fault:
        for one in series:
            _logger.warning("%s: %s", one, one.describe())
        reason = "as asked" if label else "as the most plausible; --series takes another"
        _logger.warning(
            "%s: took series %s of %d, %s", chosen.place, chosen.label, len(series), reason
        )
    return chosen
