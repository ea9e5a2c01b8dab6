"""A case that was checked: its facts and its faults."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from kitsjax.check.findings import CLEAN, ERROR, WARNING, Finding
from kitsjax.image.volume import Grid


class ImageFacts(NamedTuple):
    """What a readable image shows.

    Attributes:
        hu: the least value, the 0.5 and 99.5 percentiles, and the largest value, in HU.
        digest: hash of shape and voxels as float32.
        pictures: an axial and a coronal slice, as JPEG files.
    """

    hu: tuple[float, float, float, float]
    digest: str
    pictures: tuple[bytes, ...]


class LabelFacts(NamedTuple):
    """What a readable label holds.

    Attributes:
        volumes_cm3: volume by name of the label.
        lesions_cm3: volumes of the lesions, falling, by name of the labels that have lesions.
        ignored: share of the voxels that the label ignores, 0..1.
    """

    volumes_cm3: dict[str, float]
    lesions_cm3: dict[str, list[float]]
    ignored: float = 0.0


class AnnotatorFacts(NamedTuple):
    """How far the individual annotations agree.

    Attributes:
        number: how many annotators there are.
        dice: mean Dice between two annotators, over the instances, by name of the label.
    """

    number: int
    dice: dict[str, float]


@dataclass(frozen=True)
class CheckedCase:
    """Facts and faults of a case. A fact is None if its files are missing or cannot be read.

    Attributes:
        case_id: such as `case_00000`.
        findings: faults, the worst first.
        grid: grid of the image; it may be known though the values are not.
    """

    case_id: str
    findings: tuple[Finding, ...] = ()
    grid: Grid | None = None
    image: ImageFacts | None = None
    label: LabelFacts | None = None
    annotators: AnnotatorFacts | None = None

    def fault_names(self, grade: str) -> list[str]:
        """Return the names of the faults of a grade, each once."""
        return list(dict.fromkeys(found.name for found in self.findings if found.grade == grade))

    @property
    def grade(self) -> str:
        """The grade of the worst fault, or `CLEAN`."""
        return next((grade for grade in (ERROR, WARNING) if self.fault_names(grade)), CLEAN)


def sort_cases(cases: Iterable[CheckedCase]) -> list[CheckedCase]:
    """Sort cases, the worst first: by the number of errors, of warnings, then by id."""

    def badness(case: CheckedCase) -> tuple[int, int, str]:
        return -len(case.fault_names(ERROR)), -len(case.fault_names(WARNING)), case.case_id

    return sorted(cases, key=badness)
