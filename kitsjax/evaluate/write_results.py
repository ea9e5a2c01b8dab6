"""Write an evaluation to a folder.

- `evaluation.csv`, `evaluation_samples.csv`: KiTS21's own tables, for its evaluation classes.
- `scores.csv`, `samples.csv`, `lesions.csv`: tidy tables, one observation a row.
- `evaluation.json`: format, label scheme, folders and layout, failures, missing cases, versions,
  notes.
"""

import csv
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TypeVar

import numpy as np

from kitsjax.evaluate.results import FORMAT, Evaluation, Lesion, Score
from kitsjax.evaluate.stored_scheme import scheme_to_json
from kitsjax.files import remove_file, remove_leftovers, write_text
from kitsjax.labels import INDIVIDUAL, MAJORITY

_OFFICIAL_FILES = {MAJORITY: "evaluation.csv", INDIVIDUAL: "evaluation_samples.csv"}
FILE_NAMES = (
    *_OFFICIAL_FILES.values(), "scores.csv", "samples.csv", "lesions.csv", "evaluation.json",
)  # fmt: skip
"""The names of all files that an evaluation may write."""

_OFFICIAL_NAMES = {"kidney_and_mass": "kidney", "mass": "masses", "tumor": "tumor"}
"""KiTS21's column names of the evaluation classes."""

_Record = TypeVar("_Record", Score, Lesion)


def write_evaluation(folder: str | Path, evaluation: Evaluation) -> None:
    """Write every file of an evaluation to a folder, each one atomically.

    An official table is written only for KiTS21's evaluation classes and a kind of truth that was
    scored. One that an earlier evaluation left is removed.

    Raises:
        InputError: The folder cannot be written.
    """
    folder = Path(folder)
    remove_leftovers(folder)
    # It is written last: a folder without it, which was left half written, counts as none.
    remove_file(folder / "evaluation.json")
    for against, name in _OFFICIAL_FILES.items():
        if against in evaluation.against and _is_official(evaluation):
            write_text(folder / name, _official_table(evaluation, against))
        else:
            remove_file(folder / name)
    _write_table(folder / "scores.csv", Score, evaluation.scores)
    _write_table(folder / "samples.csv", Score, evaluation.samples)
    _write_table(folder / "lesions.csv", Lesion, evaluation.lesions)
    about = {
        "format": FORMAT,
        "labels": scheme_to_json(evaluation.scheme),
        "predictions": evaluation.predictions,
        "dataset": evaluation.dataset,
        "layout": evaluation.layout,
        "missing": evaluation.missing,
        "failures": [failure._asdict() for failure in evaluation.failures],
        "versions": evaluation.versions,
        "notes": evaluation.notes,
    }
    write_text(folder / "evaluation.json", json.dumps(about, indent=1) + "\n")


def _is_official(evaluation: Evaluation) -> bool:
    return evaluation.scheme.evaluation_keys == tuple(_OFFICIAL_NAMES)


def _official_table(evaluation: Evaluation, against: str) -> str:
    """Format KiTS21's table: one row a case, then the row `average`, eight decimals."""
    names = _OFFICIAL_NAMES.values()
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
    """Write rows under a head of field names, numbers with every digit."""
    # str keeps every digit, so reading returns the written numbers.
    lines: list[Sequence[object]] = [kind._fields, *rows]
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows(map(str, line) for line in lines)
    write_text(path, stream.getvalue())
