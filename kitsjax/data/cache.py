"""The cache of preprocessed cases: where they lie, and whether they are there.

    <cache>/<spacing>mm-<key>/case_00000-<stamp>/annotations-<stamp>

The key stands for the settings that stored cases depend on: spacing, range of HU, the number of
foreground voxels, and which values labels have. Normalization is no part of it, since cases are
stored in HU. The stamp of a case stands for the files that it was made from: when one of them
changes, the case gets another folder. So a preprocessed case never changes once it is made; runs
that read it go on reading it, and data sets that share a cache do not replace each other's cases.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kitsjax.data.case import Case
from kitsjax.data.kits import list_annotation_files
from kitsjax.data.preprocessed_case import CASE_RECORD, HISTOGRAM, PreprocessedCase
from kitsjax.data.stored_instances import INSTANCES_FOLDER, INSTANCES_RECORD
from kitsjax.errors import InputError
from kitsjax.image.file_format import list_folder
from kitsjax.input_file import advise_reading
from kitsjax.labels import KITS, LabelScheme
from kitsjax.settings import PreprocessSettings

FORMAT = 3
"""Version of the stored files; raised when their meaning changes, so that cases are made anew."""


def cache_folder(
    cache: str | Path, settings: PreprocessSettings, scheme: LabelScheme = KITS
) -> Path:
    """Return the folder under `cache` of the cases that are preprocessed with these settings."""
    stored: list[Any] = [settings.spacing_mm, settings.hu_range, settings.foreground_voxels]
    values = [len(scheme.names), scheme.ignore]
    # Cases with as many labels as KiTS have the key from before there were other schemes.
    if values != [len(KITS.names), KITS.ignore]:
        stored += values
    key = _hash(json.dumps([FORMAT, *stored]))
    return Path(cache) / f"{settings.spacing_mm:g}mm-{key}"


def locate_case(case: Case, folder: Path, annotations: bool = False) -> PreprocessedCase:
    """Locate the preprocessed case of a case's present files, which need not be there yet.

    Args:
        case: the case.
        folder: folder of the preprocessed cases.
        annotations: True also locates its instances.

    Raises:
        InputError: A file of the case cannot be found.
    """
    stored = folder / f"{case.case_id}-{case_stamp(case)}"
    if not annotations:
        return PreprocessedCase(stored)
    return PreprocessedCase(stored, stored / f"{INSTANCES_FOLDER}-{annotations_stamp(case)}")


def case_stamp(case: Case) -> str:
    """Return the stamp of a case's image and label.

    Raises:
        InputError: One of them cannot be found.
    """
    return _stamp(case, [case.image, case.label])


def stamp_of(folder: Path) -> str:
    """Return the stamp in the name of a folder that `locate_case` named."""
    return folder.name.rsplit("-", 1)[1]


def annotations_stamp(case: Case) -> str:
    """Return the stamp of a case's individual annotations, of which there may be none."""
    return _stamp(case, list_annotation_files(case.annotations) if case.annotations else [])


def is_stored(case: PreprocessedCase) -> bool:
    """Check whether the preprocessed case is there, and its instances if it names them."""
    return is_whole(case.folder / CASE_RECORD) and (
        case.annotations is None or is_whole(case.annotations / INSTANCES_RECORD)
    )


def is_whole(record: Path) -> bool:
    """Check whether a stored folder has its record, and files of the sizes that this names.

    A disk may have damaged them, or a user removed some.
    """
    try:
        sizes = json.loads(record.read_text())["files"]
        return all((record.parent / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def count_others(folder: Path, cases: Iterable[PreprocessedCase]) -> int:
    """Count the stored cases and instances beside those of a data set.

    They were made from older versions of its files, by an older version of the program, or from
    another data set.

    Args:
        folder: folder of the preprocessed cases.
        cases: those of the data set.
    """
    others = {path for path in list_folder(folder) if path.is_dir()}
    # Before format 3 a case was stored in another folder, normalized and without a histogram.
    stored = folder.parent.glob("*mm-*/case_*")
    others.update(case for case in stored if not (case / HISTOGRAM).is_file())
    for case in cases:
        others.discard(case.folder)
        if case.annotations:
            others.update(case.folder.glob(f"{INSTANCES_FOLDER}-*"))
            others.discard(case.annotations)
    return len(others)


def _stamp(case: Case, paths: Iterable[Path]) -> str:
    """Return what distinguishes files of a case from other versions of them without reading them.

    It is a hash of the name within the case's folder, the size and the time of change of each.
    """
    facts = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise InputError(
                f"{path}: cannot find it ({error.strerror}); "
                + advise_reading(error, "restore it, or move the case out of the data folder")
            ) from None
        name = os.path.relpath(path, case.folder)
        facts.append((name, status.st_size, status.st_mtime_ns))
    return _hash(json.dumps(facts))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
