"""Find the DICOM cases of a path, and the name that each has in messages and for its mask."""

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kitsjax.dicom.image import DicomFile
from kitsjax.dicom.list_files import is_index, list_files
from kitsjax.dicom.series import Series, choose_series, label_series, read_series
from kitsjax.errors import InputError, name_first
from kitsjax.image.file_format import dicom_stem, list_folder

_LOOSE = "files outside its folders"
"""What messages call the files that lie in the path itself where its folders are other cases."""

_MOST_NUMBERS = 5
"""A note gives the numbers of at most so many folders."""

_logger = logging.getLogger(__name__)


def find_dicom(path: Path, label: str | None = None) -> list[tuple[Series, str]]:
    """List the DICOM cases at a path, each with its chosen series and a name for its mask.

    A file of several frames is a case, and so is a folder, with all folders in it. A folder that
    holds several studies has a case for each folder in it, and one for the files outside them. A
    series that is split belongs to the folder with most of it. Of several series of a case one is
    chosen, and notes name all; a case with CTs of several studies fails. Cases are named after
    their folder or file; a name with a word of the patient's name gives way to the study's UID, or
    to the series' where several cases are of one study. A folder that may not be read, or of which
    no file can be, is a case that fails. Notes count what is passed over, and what in the folder
    of a case may not be read.

    Args:
        path: a file or folder.
        label: the number, UID or label of the series to choose; None: the most plausible one.

    Returns:
        The cases, sorted by path; none if there is no DICOM file. What is wrong with one is raised
        when it is read, so that the others go on.

    Raises:
        InputError: pydicom is not installed, or no file holds images, or none is found but there is
            what may not be read.
    """
    files, shut = list_files(path)
    if not files:
        # A folder that may not be read itself is named by whoever reads it as something else.
        if shut and path not in shut:
            raise InputError(
                f"{path}: no DICOM found, but {len(shut)} of its files and folders may not be "
                "read; make them readable"
            )
        return []
    series, damaged = read_series(files, str(path))
    numbers = _number_folders(path)
    shut_folders = {_first(path, each) for each in shut} & numbers.keys()
    _note_passed_over(path, {_first(path, file) for file in files} | shut_folders, numbers)
    cases: dict[Path, list[Series]] = {}
    for one in series:
        cases.setdefault(_case_folder(path, one), []).append(one)
    read = {_top(path, file.path) for one in series for file in one.files}
    _note_shut(path, [each for each in shut if _first(path, each) in read], numbers)
    lost = ({_top(path, file) for file in damaged} | shut_folders) - read
    # What is lost may be another patient's, unless it is a loose file beside the folders of one.
    if lost <= {path} and (len(cases) == 1 or len({_study(one) for one in series}) == 1):
        cases, lost = {path: series}, set()
    names = _name_cases(path, cases)
    chosen = [
        (_choose(label_series(found, _place(path, folder, names)), label), names[folder])
        for folder, found in sorted(cases.items())
    ]
    return [*chosen, *_list_lost(path, lost, files, damaged, numbers)]


def _first(path: Path, inner: Path) -> Path:
    """Return what lies in `path` itself and is, or holds, something at whatever depth."""
    return path.joinpath(*inner.relative_to(path).parts[:1])


def _top(path: Path, file: Path) -> Path:
    """Return the folder in `path` that holds a file, at whatever depth; `path` if none does."""
    return path.joinpath(*file.relative_to(path).parts[:-1][:1])


def _case_folder(path: Path, series: Series) -> Path:
    """Return the folder in `path` with most files of a series, of equal ones the first by name.

    One slice that lies elsewhere must not join the cases of two folders.
    """
    ((folder, _),) = Counter(_top(path, file.path) for file in series.files).most_common(1)
    return folder


def _study(series: Series) -> str:
    """Return the UID of a series' study; its folder if that is blank, as nothing else tells."""
    return series.first.study or str(series.first.path.parent)


def _name_cases(path: Path, cases: Mapping[Path, Sequence[Series]]) -> dict[Path, str]:
    """Name each case after its folder, or by a UID where that would tell a patient's name.

    Names are distinct, for one mask must not replace another.
    """
    names: dict[Path, str] = {}
    for folder, found in cases.items():
        place = _named(folder)
        # In a folder of several patients the name of one must not slip through with another's.
        given = [one.name(place) for one in found]
        names[folder] = next((name for name in given if name != place.name), place.name)
    count = Counter(names.values())
    distinct: dict[Path, str] = {}
    # The files outside all folders come last, so that the folders keep their names.
    for folder in sorted(names, key=lambda folder: (folder == path, folder)):
        name = names[folder]
        if count[name] > 1 and name != _named(folder).name:
            name = cases[folder][0].first.series or name
        number, first = 1, name
        while name in distinct.values():
            number += 1
            name = f"{first}_{number}"
        distinct[folder] = name
    return distinct


def _place(path: Path, folder: Path, names: Mapping[Path, str]) -> str:
    """Return what messages call a case."""
    if folder != path:
        return str(path / names[folder])
    return str(path) if len(names) == 1 else f"{path} ({_LOOSE})"


def _named(folder: Path) -> Path:
    """Return a path with a name, which "." has not; of a file without its suffix."""
    absolute = Path(os.path.abspath(folder))
    return absolute.with_name(dicom_stem(absolute.name)) if absolute.is_file() else absolute


def _choose(series: Sequence[Series], label: str | None) -> Series:
    """Choose a series of a case; if there are several, log a note on each and on the choice.

    Where CTs of several studies lie in the case, return a series that says so: they may be of
    several patients, of whom only one would get a mask. The UID of a series leaves no doubt.
    """
    studies = {_study(one) for one in series if one.first.modality == "CT" and one.images}
    if len(studies) > 1 and label not in {one.first.series for one in series}:
        advice = "give the folder of each, or put each in one of its own"
        fault = f"holds CTs of {len(studies)} studies; {advice}"
        return replace(series[0], fault=fault)
    chosen = choose_series(series, label)
    if len(series) > 1 and not chosen.fault:
        for one in series:
            _logger.warning("%s: %s", one, one.describe())
        reason = "as asked" if label else "as the most plausible; --series takes another"
        _logger.warning(
            "%s: took series %s of %d, %s", chosen.place, chosen.label, len(series), reason
        )
    return chosen


def _list_lost(
    path: Path,
    lost: Collection[Path],
    files: Sequence[Path],
    damaged: Sequence[Path],
    numbers: Mapping[Path, int],
) -> Iterator[tuple[Series, str]]:
    """Yield for each folder of which no file can be, or may be, read a series that says so."""
    unreadable = set(damaged)
    for folder in sorted(lost):
        inside = [file for file in files if _top(path, file) == folder]
        bad = [file for file in inside if file in unreadable]
        # Its name may be the patient's, which only a file that can be read would tell.
        where = _LOOSE if folder == path else _tell_folders([folder], numbers)
        fault = f"{where}: {len(bad)} of {len(inside)} DICOM files cannot be read; get them again"
        if not bad:
            fault = f"{where} may not be read; make it readable"
        none = DicomFile(path, "", "", "", "", "", "", (), (), "unreadable", frozenset())
        yield Series((none,), str(path), "", fault), where


def _note_passed_over(path: Path, used: Collection[Path], numbers: Mapping[Path, int]) -> None:
    """Log one note on what is visible in a folder and is not used; files are counted."""
    left = [each for each in list_folder(path) if each not in used and not is_index(each.name)]
    folders = [each for each in left if each in numbers]
    texts = []
    if count := len(left) - len(folders):
        texts.append("1 file" if count == 1 else f"{count} files")
    if folders:
        texts.append(_tell_folders(folders, numbers))
    if texts:
        _logger.warning("%s: passed over %s: no DICOM there", path, " and ".join(texts))


def _note_shut(path: Path, shut: Sequence[Path], numbers: Mapping[Path, int]) -> None:
    """Log one note on what may not be read in folders that are cases all the same."""
    if shut:
        count = "1 file or folder" if len(shut) == 1 else f"{len(shut)} files or folders"
        where = _tell_folders(sorted({_first(path, each) for each in shut}), numbers)
        _logger.warning("%s: %s in %s may not be read", path, count, where)


def _tell_folders(folders: Sequence[Path], numbers: Mapping[Path, int]) -> str:
    """Say by their numbers which folders are meant, for their names may be patients'."""
    noun = "folder" if len(folders) == 1 else "folders"
    shown = name_first([numbers[folder] for folder in folders], _MOST_NUMBERS)
    return f"{noun} {shown} of {len(numbers)} by name"


def _number_folders(path: Path) -> dict[Path, int]:
    """Give each visible folder in a folder its number by name, from 1.

    A link into a folder that may not be searched counts: most likely it leads to a folder.
    """
    folders = [each for each in list_folder(path) if _is_folder(each)]
    return {folder: number for number, folder in enumerate(folders, 1)}


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except PermissionError:
        return True
