"""The cache of preprocessed cases: where they lie, and whether they are up to date.

Each combination of preprocessing settings has a folder of its own. A preprocessed case records the
input files that it was made from, and is made again when one of them changes.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from kitsjax.data.kits import Case, list_annotation_files
from kitsjax.data.stored_instances import INSTANCES_FOLDER, RECORD_NAME
from kitsjax.settings import PreprocessSettings

FORMAT = 1
"""Version of the stored files; raised when their meaning changes, so that cases are made anew."""

Stamp = list[list[str | int]]
"""What distinguishes input files from other versions of them without reading them: the path, the
size in bytes and the time of change of each file."""


def cache_folder(cache: str | Path, settings: PreprocessSettings) -> Path:
    """Return the folder under `cache` of the cases that are preprocessed with these settings."""
    text = f"{FORMAT} {settings.model_dump_json()}"
    key = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Path(cache) / f"{settings.spacing_mm:g}mm-{key}"


def is_current(case: Case, folder: Path) -> bool:
    """Check whether the preprocessed case in `folder` was made from the case's present files."""
    return _is_recorded(folder / "case.json", case_stamp, case)


def is_annotated(case: Case, folder: Path) -> bool:
    """Check whether the instances in `folder` were made from the case's present annotations."""
    return _is_recorded(folder / INSTANCES_FOLDER / RECORD_NAME, annotations_stamp, case)


def case_stamp(case: Case) -> Stamp:
    """Return the stamp of a case's image and label."""
    return _stamp([case.image, case.label])


def annotations_stamp(case: Case) -> Stamp:
    """Return the stamp of a case's individual annotations; empty if it has none."""
    return _stamp(list_annotation_files(case.annotations) if case.annotations else [])


def _is_recorded(record: Path, stamp: Callable[[Case], Stamp], case: Case) -> bool:
    try:
        return json.loads(record.read_text())["inputs"] == stamp(case)
    except (OSError, ValueError, KeyError):
        # The record is missing or damaged, or an input file has gone.
        return False


def _stamp(paths: Iterable[Path]) -> Stamp:
    return [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in paths]
