"""Bring a folder of preprocessed cases up to date, in parallel processes; restartable."""

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kitsjax.data.cache import is_annotated, is_current
from kitsjax.data.kits import Case
from kitsjax.data.preprocess_case import annotate_case, preprocess_case, require_annotations
from kitsjax.errors import InputError
from kitsjax.process_pool import map_cases
from kitsjax.settings import PreprocessSettings


@dataclass(frozen=True)
class PreprocessReport:
    """What `preprocess_cases` did.

    Attributes:
        made: number of cases that were preprocessed or annotated.
        kept: number of cases that were up to date.
        failures: (case id, message) of each case that failed.
        peak_gib: peak memory of the largest worker process, GiB; 0 if none was needed.
    """

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
) -> PreprocessReport:
    """Preprocess the cases that are missing or out of date in `folder`.

    A case that fails is reported and the others go on. A run that is killed keeps the cases that it
    has finished.

    Args:
        cases: all cases of the data set.
        folder: folder of the preprocessed cases, one subfolder a case.
        settings: preprocessing settings; those of a cache folder never change.
        workers: number of processes, each with one case at a time; 0: one a core.
        annotations: True also stores the instances. A case that lacks only these gets only these.
    """
    todo = [
        case
        for case in cases
        if not is_current(case, folder / case.case_id)
        or (annotations and not is_annotated(case, folder / case.case_id))
    ]
    failures: list[tuple[str, str]] = []
    peak = 0.0
    # Isolated: this process's own peak memory is not that of preprocessing.
    results = map_cases(
        partial(_update_case, folder, settings, annotations),
        todo, workers, "preprocess", isolated=True,
    )  # fmt: skip
    for case, result in results:
        if isinstance(result, InputError):
            failures.append((case.case_id, str(result)))
        else:
            peak = max(peak, result)
    made = len(todo) - len(failures)
    return PreprocessReport(made, len(cases) - len(todo), sorted(failures), peak)


def _update_case(
    folder: Path, settings: PreprocessSettings, annotations: bool, case: Case
) -> float:
    """Bring one case up to date and return this process's peak memory so far, GiB."""
    if annotations:
        # Before the image, which takes long.
        require_annotations(case)
    if not is_current(case, folder / case.case_id):
        preprocess_case(case, folder / case.case_id, settings)
    if annotations:
        annotate_case(case, folder / case.case_id)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
