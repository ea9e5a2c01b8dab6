"""Scores of predicted masks against the truth: cases in parallel, CSV, means, a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kitsjax.data.geometry import check_same_grid
from kitsjax.data.volume import read_label
from kitsjax.errors import InputError
from kitsjax.evaluate.metrics import Spacing, bounding_box, dice, surface_dice
from kitsjax.files import write_text
from kitsjax.labels import EVALUATION_CLASSES
from kitsjax.parallel import map_cases

PAPER_NAMES = {"kidney_and_mass": "Kidney + Masses", "mass": "Masses", "tumor": "Tumor"}
"""Names of the evaluation classes in the paper's Table 1."""

OFFICIAL_NAMES = {"kidney_and_mass": "kidney", "mass": "masses", "tumor": "tumor"}
"""Names of the evaluation classes in the columns of KiTS21's evaluation.csv."""


class Scores(NamedTuple):
    """The scores of one evaluation class, each in 0..1."""

    dice: float
    surface_dice: float


class Row(NamedTuple):
    """A case and its scores, by evaluation class."""

    case_id: str
    scores: dict[str, Scores]


class Failure(NamedTuple):
    """A case that could not be scored, and why, in one line."""

    case_id: str
    message: str


Means = dict[str, dict[str, float]]
"""{"kidney_and_mass": {"dice": x, "surface_dice": x}, "mass": ..., "tumor": ...}"""


def class_mask(label: np.ndarray, name: str) -> np.ndarray:
    """The voxels of a label map that belong to an evaluation class, bool."""
    # np.isin would need nine bytes a voxel.
    mask = np.zeros(label.shape, bool)
    for value in EVALUATION_CLASSES[name].labels:
        mask |= label == value
    return mask


def score_case(prediction: np.ndarray, truth: np.ndarray, spacing_mm: Spacing) -> dict[str, Scores]:
    """Dice and surface Dice of each evaluation class, at the class's tolerance.

    Label maps (z, y, x) of one shape with the values of `kitsjax.labels`. A class absent from
    both scores 1 and 1, from exactly one 0 and 0.

    Raises:
        ValueError: the label maps differ in shape.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"label maps differ in shape: {prediction.shape} and {truth.shape}")
    boxes = [box for box in map(bounding_box, (prediction, truth)) if box]
    # Everything outside both labels is background to every class and every surface.
    union = tuple(
        slice(min(s.start for s in sides), max(s.stop for s in sides))
        for sides in zip(*boxes, strict=True)
    )
    prediction, truth = prediction[union], truth[union]
    scores = {}
    for name, (_, tolerance_mm) in EVALUATION_CLASSES.items():
        masks = class_mask(prediction, name), class_mask(truth, name)
        scores[name] = Scores(dice(*masks), surface_dice(*masks, spacing_mm, tolerance_mm))
    return scores


def score_folder(
    predictions: str | Path | Mapping[str, str | Path],
    truths: Mapping[str, str | Path],
    workers: int = 1,
    progress: bool = True,
) -> tuple[list[Row], list[Failure]]:
    """Score predicted masks, each on its own native grid, with a progress bar.

    Args:
        predictions: {case id: file}, or a folder of <case id>.nii.gz.
        truths: {case id: file}.
        workers: processes; 1 scores in this one, 0 starts one a core.
        progress: show the bar.

    Returns:
        Rows and failures, each in the order of the case ids. A missing, unreadable or misplaced
        file fails its case alone, as does a prediction without a truth.

    Raises:
        InputError: the folder of predictions does not exist.
    """
    if not isinstance(predictions, Mapping):
        predictions = _find_predictions(Path(predictions))
    failures = [
        Failure(case_id, f"{truths[case_id]}: has no prediction; predict {case_id} as well")
        for case_id in truths.keys() - predictions.keys()
    ] + [
        Failure(case_id, f"{predictions[case_id]}: has no truth; remove it or add its label")
        for case_id in predictions.keys() - truths.keys()
    ]
    files = [(c, Path(predictions[c]), Path(truths[c])) for c in truths if c in predictions]
    rows = []
    try:
        for (case_id, *_), result in map_cases(_score_files, files, workers, "score", progress):
            if isinstance(result, InputError):
                failures.append(Failure(case_id, str(result)))
            else:
                rows.append(Row(case_id, result))
    except InputError as killed:
        done = {case_id for case_id, _ in (*rows, *failures)}
        failures += [Failure(c, f"{file}: {killed}") for c, file, _ in files if c not in done]
    return sorted(rows), sorted(failures)


def write_scores(path: str | Path, rows: Sequence[Row]) -> None:
    """Write KiTS21's evaluation.csv: a row a case, then the row `average`; whole or not at all.

    Columns and number format are those of the official script (`kits21.md`); without rows, the
    header alone.

    Raises:
        InputError: the file cannot be written.
    """
    names = [OFFICIAL_NAMES[name] for name in EVALUATION_CLASSES]
    lines = [",".join(["caseID", *(f"{s}_{name}" for s in ("Dice", "SD") for name in names)])]
    table = [_numbers(row.scores) for row in rows]
    ids = [row.case_id for row in rows]
    if rows:
        table.append(list(np.mean(table, axis=0)))
        ids.append("average")
    for case_id, numbers in zip(ids, table, strict=True):
        lines.append(",".join([case_id, *(f"{number:.8f}" for number in numbers)]))
    write_text(path, "\n".join(lines) + "\n")


def mean_scores(rows: Sequence[Row]) -> Means:
    """Means over cases, by evaluation class, as summary.json holds them.

    Raises:
        InputError: there are no rows.
    """
    if not rows:
        raise InputError("no case was scored, so there is no mean; see the cases that failed")
    return {
        name: {
            score: float(np.mean([getattr(row.scores[name], score) for row in rows]))
            for score in Scores._fields
        }
        for name in EVALUATION_CLASSES
    }


def format_table(means: Mapping[str, Means]) -> str:
    """A table for the terminal: a row for each named set of means, the paper's class names."""
    width = max([len(name) for name in means], default=0)
    cell = max(len(name) for name in PAPER_NAMES.values())
    group = len(PAPER_NAMES) * (cell + 2) - 2
    classes = "  ".join(f"{name:>{cell}}" for name in PAPER_NAMES.values())
    lines = [
        f"{'':{width}}  {'Dice':^{group}}  {'Surface Dice':^{group}}".rstrip(),
        f"{'':{width}}  {classes}  {classes}",
    ]
    for name, row in means.items():
        numbers = [row[c][score] for score in Scores._fields for c in PAPER_NAMES]
        cells = "  ".join(f"{number:>{cell}.3f}" for number in numbers)
        lines.append(f"{name:{width}}  {cells}")
    return "\n".join(lines)


def _find_predictions(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of predictions; give the one predict wrote")
    suffix = ".nii.gz"
    return {
        path.name.removesuffix(suffix): path
        for path in sorted(folder.glob(f"*{suffix}"))
        if not path.name.startswith(".")
    }


def _score_files(files: tuple[str, Path, Path]) -> dict[str, Scores]:
    """The scores of a (case id, prediction, truth)."""
    _, prediction, truth = files
    predicted, true = read_label(prediction), read_label(truth)
    check_same_grid(predicted, true)
    return score_case(predicted.array, true.array, true.spacing_mm)


def _numbers(scores: Mapping[str, Scores]) -> list[float]:
    """The six numbers of a row in the official order: the Dice scores, then the surface Dice."""
    return [getattr(scores[name], score) for score in Scores._fields for name in EVALUATION_CLASSES]
