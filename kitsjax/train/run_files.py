"""The raw files of a run's cases: are they still those that the run was begun with?"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from kitsjax.data.case import Case
from kitsjax.data.kits import list_annotation_files
from kitsjax.errors import InputError
from kitsjax.labels import MAJORITY
from kitsjax.run_record import FileStates, RunRecord
from kitsjax.settings import Settings

_HASHED_BYTES = 2**24
"""So many bytes at a file's end are hashed, more than a packed label has."""


def check_files(record: RunRecord, settings: Settings, cases: Sequence[Case]) -> None:
    """Compare the files of a run's cases with those that the run was begun with, if it knows them.

    Raises:
        InputError: one is missing, new or has other content; the message names it.
    """
    if not record.files:
        return
    found = list_files(settings, cases)
    for case in cases:
        before, now = record.files.get(case.case_id, {}), found[case.case_id]
        for name in sorted(before.keys() | now.keys()) if before else ():
            old, new = before.get(name), now.get(name)
            if old != new:
                raise InputError(
                    f"{case.folder / name}: {new or 'absent'} now, {old or 'absent'} when the run "
                    f"in {settings.run.folder} began; put the old file back, or begin another run"
                )


def list_files(settings: Settings, cases: Sequence[Case]) -> FileStates:
    """List the files that training reads of each case, with what tells them from changed ones."""
    states = {}
    for case in cases:
        files = [case.image, case.label]
        if case.annotations is not None and settings.data.label_source != MAJORITY:
            files += list_annotation_files(case.annotations)
        states[case.case_id] = {
            path.relative_to(case.folder).as_posix(): _describe_state(path) for path in files
        }
    return states


def _describe_state(path: Path) -> str:
    """Describe a file by its size and the hash of its last bytes.

    A packed file ends with the checksum of its whole content, so it is told from any other; a
    large file that is not packed only from one that differs in its last bytes.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _HASHED_BYTES))
        digest = hashlib.sha256(file.read()).hexdigest()[:16]
    return f"{size:,} bytes ({digest})"
