"""Faults of a case and their grades: errors and warnings.

An error is a fault that training or scoring refuses, or that certainly spoils them. A warning is
what a person should look at: it is judged by experience and may be right as it is.
"""

from collections.abc import Iterable
from typing import NamedTuple

ERROR, WARNING, CLEAN = "error", "warning", "clean"
"""Grades of a fault, and of a case by its worst fault; a case without any is clean."""

GRADES = {
    "unreadable case": ERROR,
    "unreadable file": ERROR,
    "missing file": ERROR,
    "grid mismatch": ERROR,
    "foreign labels": ERROR,
    "NaN": ERROR,
    "wrong spacing": ERROR,
    "tilted axes": ERROR,
    "empty label": ERROR,
    "incomplete annotations": ERROR,
    "duplicated image": ERROR,
    "unsigned HU": ERROR,
    "second phase": WARNING,
    "shifted HU": WARNING,
    "clipped HU": WARNING,
    "padded HU": WARNING,
    "small field of view": WARNING,
    "annotators disagree": WARNING,
    "note on a file": WARNING,
}
"""The grade of each fault by its name, the worst first."""


class Finding(NamedTuple):
    """A fault of a case.

    Attributes:
        name: a key of `GRADES`.
        text: one line that says what was found; files are named from the case's folder.
    """

    name: str
    text: str

    @property
    def grade(self) -> str:
        """`ERROR` or `WARNING`."""
        return GRADES[self.name]


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort faults, the worst first; those of one name keep their order."""
    order = list(GRADES)
    return tuple(sorted(findings, key=lambda found: order.index(found.name)))
