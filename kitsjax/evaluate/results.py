"""What an evaluation found, and the files that hold it.

`evaluation.csv` and `evaluation_samples.csv` are KiTS21's own; `scores.csv`, `samples.csv` and
`lesions.csv` are tidy, a row an observation; `evaluation.json` says of what they are.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from kitsjax.files import remove_file, write_text
from kitsjax.labels import EVALUATION_CLASSES, INDIVIDUAL, MAJORITY

FORMAT = 1
"""Raised whenever files of an earlier format could be misread."""

OFFICIAL_FILES = {MAJORITY: "evaluation.csv", INDIVIDUAL: "evaluation_samples.csv"}
OFFICIAL_NAMES = {"kidney_and_mass": "kidney", "mass": "masses", "tumor": "tumor"}
"""Names of the evaluation classes in the columns of KiTS21's evaluation.csv."""


class Score(NamedTuple):
    """A prediction's score in one evaluation class, against one truth or the mean over several.

    Attributes:
        case_id: `case_00000`.
        evaluation_class: a key of `EVALUATION_CLASSES`.
        against: "majority", "individual" (the mean over the samples), or a sample's file name.
        samples: how many truths the numbers are the mean of.
        dice, surface_dice: 0..1; 1 where both masks are empty, 0 where exactly one is.
        hausdorff95_mm: nan where either mask is empty; the mean over the other samples.
        prediction_cm3, truth_cm3: volumes.
        tumors: how many tumors the case has.
    """

    case_id: str
    evaluation_class: str
    against: str
    samples: int
    dice: float
    surface_dice: float
    hausdorff95_mm: float
    prediction_cm3: float
    truth_cm3: float
    tumors: int


class Lesion(NamedTuple):
    """A tumor or cyst of the majority label, or a predicted one; see `kitsjax.evaluate.lesions`.

    Attributes:
        case_id: `case_00000`.
        source: "truth", or "prediction" for a false detection.
        label: "tumor" or "cyst".
        number: from 1, by falling volume within (case, source, label).
        volume_cm3: of the lesion.
        outcome: a key of `lesions.OUTCOMES`.
        covered: share of a true lesion's voxels that are predicted as a mass, tumor or cyst, in
            0..1; nan if predicted.
        excess: share of the voxels of the predicted lesions matched to a true one that lie
            outside every true mass, in 0..1; nan for an missed or a predicted lesion.
        misclassified: share of the predicted mass voxels inside a true lesion that have the other
            mass's label; nan likewise.
        slice: the axial slice, from 0, that shows most of the lesion.
    """

    case_id: str
    source: str
    label: str
    number: int
    volume_cm3: float
    outcome: str
    covered: float
    excess: float
    misclassified: float
    slice: int


class Failure(NamedTuple):
    """A case that could not be scored, and why, in one line."""

    case_id: str
    message: str


@dataclass(frozen=True)
class Evaluation:
    """All that scoring a folder of predictions found.

    `pandas.DataFrame(evaluation.scores)`, and of `.samples` and `.lesions`, are tidy tables.

    Attributes:
        scores: a row each case, evaluation class and of MAJORITY and INDIVIDUAL those asked for,
            in this order of sorting.
        samples: likewise, a row each annotation sample.
        lesions: true lesions and false detections.
        failures: cases that could not be scored.
        missing: cases without a prediction.
        predictions, dataset: the folders scored, absolute.
        versions: of what the numbers depend on.
    """

    scores: tuple[Score, ...] = ()
    samples: tuple[Score, ...] = ()
    lesions: tuple[Lesion, ...] = ()
    failures: tuple[Failure, ...] = ()
    missing: tuple[str, ...] = ()
    predictions: str = ""
    dataset: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def case_ids(self) -> list[str]:
        """The cases scored, sorted."""
        return sorted({score.case_id for score in self.scores})

    @property
    def against(self) -> list[str]:
        """Which of MAJORITY and INDIVIDUAL the scores are against."""
        return [a for a in (MAJORITY, INDIVIDUAL) if any(s.against == a for s in self.scores)]

    def table(self, against: str, column: str = "dice") -> dict[str, dict[str, float]]:
        """{evaluation class: {case id: a column of its score}} of what is scored `against`."""
        rows = [score for score in self.scores if score.against == against]
        return {
            name: {s.case_id: getattr(s, column) for s in rows if s.evaluation_class == name}
            for name in EVALUATION_CLASSES
        }


_Record = TypeVar("_Record", Score, Lesion)


def write_evaluation(folder: str | Path, evaluation: Evaluation) -> None:
    """Write every file of an evaluation to a folder; each appears whole or not at all.

    The official files are written for what was scored, and removed if an earlier evaluation of
    something else left them.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = Path(folder)
    for against, name in OFFICIAL_FILES.items():
        if against in evaluation.against:
            write_text(folder / name, _official_table(evaluation, against))
        else:
            remove_file(folder / name)
    _write_table(folder / "scores.csv", Score, evaluation.scores)
    _write_table(folder / "samples.csv", Score, evaluation.samples)
    _write_table(folder / "lesions.csv", Lesion, evaluation.lesions)
    about = {
        "format": FORMAT,
        "predictions": evaluation.predictions,
        "dataset": evaluation.dataset,
        "missing": evaluation.missing,
        "failures": [failure._asdict() for failure in evaluation.failures],
        "versions": evaluation.versions,
    }
    write_text(folder / "evaluation.json", json.dumps(about, indent=1) + "\n")


def _official_table(evaluation: Evaluation, against: str) -> str:
    """KiTS21's table: a row a case, then the row `average`; its columns and number format."""
    names = [OFFICIAL_NAMES[name] for name in EVALUATION_CLASSES]
    lines = [",".join(["caseID", *(f"{s}_{name}" for s in ("Dice", "SD") for name in names)])]
    columns = [
        by_case
        for column in ("dice", "surface_dice")
        for by_case in evaluation.table(against, column).values()
    ]
    table = {case: [column[case] for column in columns] for case in sorted(columns[0])}
    table["average"] = list(np.mean(list(table.values()), axis=0))
    lines += [",".join([c, *(f"{number:.8f}" for number in row)]) for c, row in table.items()]
    return "\n".join(lines) + "\n"


def _write_table(path: Path, kind: type[_Record], rows: Sequence[_Record]) -> None:
    # Every digit, so that what is read back is what was written; no field holds a comma.
    lines: list[Sequence[object]] = [kind._fields, *rows]
    write_text(path, "".join(",".join(str(value) for value in line) + "\n" for line in lines))
