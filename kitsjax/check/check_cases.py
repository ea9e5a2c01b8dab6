"""Check all cases of a data set at once, and compare them with each other."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from kitsjax.check.checked_case import CheckedCase, sort_cases
from kitsjax.check.examine_case import examine_case
from kitsjax.check.findings import Finding, sort_findings
from kitsjax.data.case import Case
from kitsjax.errors import InputError
from kitsjax.failures import describe_failure
from kitsjax.labels import KITS, LabelScheme
from kitsjax.process_pool import map_cases
from kitsjax.settings import PreprocessSettings

DEFAULT_SPACING_MM = PreprocessSettings().spacing_mm
"""Isotropic voxel edge after preprocessing without other settings, mm."""


def check_cases(
    cases: Sequence[Case],
    folder: str | Path,
    workers: int = 0,
    progress: bool = True,
    scheme: LabelScheme = KITS,
    spacing_mm: float = DEFAULT_SPACING_MM,
) -> list[CheckedCase]:
    """Check cases, several at once, and return them, the worst first.

    A case that cannot be examined has that as its fault, and all others are checked.

    Args:
        cases: the cases; files may be missing.
        folder: gets the log of tracebacks if something unforeseen happens.
        workers: number of processes; 0: one for each core.
        progress: show a progress bar.
        scheme: the label scheme of the data set.
        spacing_mm: isotropic voxel edge after preprocessing.
    """
    checked = []
    examine = partial(examine_case, folder=Path(folder), scheme=scheme, spacing_mm=spacing_mm)
    for case, result in map_cases(examine, cases, workers, "checking", progress):
        if isinstance(result, InputError):
            text = describe_failure(result, case.place, folder)
            result = CheckedCase(case.case_id, (Finding("unreadable file", text),))
        checked.append(result)
    return sort_cases(_mark_duplicates(checked))


def _mark_duplicates(cases: Sequence[CheckedCase]) -> list[CheckedCase]:
    """Add a fault to each case whose image has the same voxels as another case's."""
    owners: dict[str, list[str]] = {}
    for case in cases:
        if case.image:
            owners.setdefault(case.image.digest, []).append(case.case_id)
    marked = []
    for case in cases:
        own = owners[case.image.digest] if case.image else []
        others = ", ".join(sorted(set(own) - {case.case_id}))
        if others:
            text = (
                f"the image has the same voxels as that of {others}; keep one, or the split "
                "may train on what it tests"
            )
            found = sort_findings([*case.findings, Finding("duplicated image", text)])
            case = replace(case, findings=found)
        marked.append(case)
    return marked
