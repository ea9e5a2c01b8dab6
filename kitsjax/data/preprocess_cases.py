"""Bring a folder of preprocessed cases up to date, in parallel processes; restartable."""

import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kitsjax.data.cache import is_stored, is_whole, locate_case, stamp_of
from kitsjax.data.case import Case
from kitsjax.data.preprocess_case import annotate_case, preprocess_case, require_annotations
from kitsjax.data.preprocessed_case import CASE_RECORD, PreprocessedCase
from kitsjax.data.stored_instances import INSTANCES_RECORD
from kitsjax.errors import InputError
from kitsjax.failures import describe_failure
from kitsjax.files import check_folder, remove_leftovers, temporary_beside
from kitsjax.labels import KITS, LabelScheme
from kitsjax.process_pool import map_cases
from kitsjax.processes import own_order
from kitsjax.settings import PreprocessSettings


@dataclass(frozen=True)
class PreprocessReport:
    """What `preprocess_cases` did.

    Attributes:
        cases: the preprocessed cases by case id, without those that failed.
        made: number of cases that this process preprocessed or annotated.
        kept: number of cases that were up to date, or that another process made meanwhile.
        failures: (case id, message) of each case that failed.
        peak_gib: peak memory of the largest worker process, GiB; 0 if none was needed.
    """

    cases: dict[str, PreprocessedCase]
    made: int
    kept: int
    failures: list[tuple[str, str]]
    peak_gib: float


def preprocess_cases(
    cases: Sequence[Case],
    folder: Path,
    settings: PreprocessSettings,
    workers: int = 0,
    annotations: bool = False,
    scheme: LabelScheme = KITS,
) -> PreprocessReport:
    """Preprocess the cases whose present files have no preprocessed case in `folder`.

    A case that fails is reported and the others go on. A run that is killed keeps the cases that it
    has finished. Several processes may do this at once: they share the work.

    Args:
        cases: all cases of the data set.
        folder: folder of the preprocessed cases.
        settings: preprocessing settings; those of a cache folder never change.
        workers: number of processes, each with one case at a time; 0: one a core.
        annotations: True also stores the instances. A case that lacks only these gets only these.
        scheme: what the values of the labels mean; that of a cache folder never changes.

    Raises:
        InputError: A case is to be made, and `folder` cannot be written.
    """
    remove_leftovers(folder)
    stored = {case.case_id: _find_stored(case, folder, annotations) for case in cases}
    todo = own_order(case for case in cases if stored[case.case_id] is None)
    if todo:
        check_folder(folder, "data.cache")
    failures: list[tuple[str, str]] = []
    made, peak = 0, 0.0
    # Isolated: this process's own peak memory is not that of preprocessing.
    results = map_cases(
        partial(_update_case, folder, settings, annotations, scheme),
        todo, workers, "preprocess", isolated=True,
    )  # fmt: skip
    for case, result in results:
        if isinstance(result, InputError):
            failures.append((case.case_id, describe_failure(result, case.place, folder)))
        else:
            stored[case.case_id], own, memory = result
            made, peak = made + own, max(peak, memory)
    found = {case_id: case for case_id, case in stored.items() if case is not None}
    return PreprocessReport(found, made, len(found) - made, sorted(failures), peak)


def _find_stored(case: Case, folder: Path, annotations: bool) -> PreprocessedCase | None:
    """Return the preprocessed case of a case's present files; None if it is to be made."""
    try:
        stored = locate_case(case, folder, annotations)
    except InputError:
        # A file has gone. Making the case says so, as the failure of this case.
        return None
    return stored if is_stored(stored) else None


def _update_case(
    folder: Path,
    settings: PreprocessSettings,
    annotations: bool,
    scheme: LabelScheme,
    case: Case,
) -> tuple[PreprocessedCase, bool, float]:
    """Bring one case up to date, unless another process has done so since.

    Returns:
        The preprocessed case, whether it was completed here, and this process's peak memory so far,
        GiB.
    """
    if annotations:
        # Before the image, which takes long.
        require_annotations(case)
    stored, made = locate_case(case, folder, annotations), False
    if not is_whole(stored.folder / CASE_RECORD):
        _remove_damaged(stored.folder, CASE_RECORD)
        made = preprocess_case(case, stored.folder, settings, scheme, stamp_of(stored.folder))
    if stored.annotations:
        # Whoever completes the case has made it, so that two runs do not count it twice.
        made = False
        if not is_whole(stored.annotations / INSTANCES_RECORD):
            remove_leftovers(stored.folder)
            _remove_damaged(stored.annotations, INSTANCES_RECORD)
            made = annotate_case(case, stored.annotations, stamp_of(stored.annotations))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return stored, made, peak / (2**30 if sys.platform == "darwin" else 2**20)


def _remove_damaged(folder: Path, record: str) -> None:
    """Remove a stored folder whose record the disk has damaged.

    Folders appear whole. So one that was there before its record was found wanting is damaged, and
    not one that another process has made since.
    """
    if folder.is_dir() and not is_whole(folder / record):
        with temporary_beside(folder) as aside, suppress(FileNotFoundError):
            folder.rename(aside)
