"""The results of a cross-validation: each case scored once, by the model that did not see it."""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from kitsjax.data.folds import fold_folder
from kitsjax.evaluate.read_results import read_evaluation
from kitsjax.evaluate.results import Evaluation
from kitsjax.evaluate.write_results import FILE_NAMES, write_evaluation
from kitsjax.files import atomic_write, remove_file
from kitsjax.report.report import PAGE_NAME, remove_report, write_report
from kitsjax.report.result_tables import score_table
from kitsjax.report.table_format import to_text
from kitsjax.run_record import RunRecord
from kitsjax.train.shared_scoring import merge_evaluations
from kitsjax.train.summary import CHOSEN_EPOCH


def write_fold_results(folder: Path, records: Sequence[RunRecord]) -> list[str]:
    """Write `predictions/`, `scores/` and `report/` of all cases from those of the folds' runs.

    Nothing is scored again. The predictions are links to those of the folds that have a score, or
    copies on a disk that has no links. A case that failed may have the mask of an earlier model.

    Args:
        folder: the folder of the folds' runs.
        records: the record of each fold's run, all of them finished.

    Returns:
        One line for each case that has no score.

    Raises:
        InputError: the scores of a fold cannot be read, or the folder cannot be written.
    """
    folds = [(fold_folder(folder, k), record) for k, record in enumerate(records)]
    scores = {path: _read_fold(path, record) for path, record in folds if record.held_out}
    _link_predictions(folder / "predictions", scores)
    parts = list(scores.values())
    # The first one's data set and labels stand for all; a fold without any score knows none.
    parts.sort(key=lambda part: not part.scores)
    found = replace(
        merge_evaluations(parts),
        predictions=os.path.realpath(folder / "predictions"),
        notes=(
            f"Out-of-fold scores: each case is scored once, predicted by that of {len(folds)} "
            "models which held it out of its training.",
            CHOSEN_EPOCH,
        ),
    )
    write_evaluation(folder / "scores", found)
    if not found.scores:
        remove_report(folder / "report")
    else:
        write_report(found, folder / "report")
        print(f"\n{to_text(score_table(found))}\n")
        print(f"out-of-fold: scores/scores.csv, report/{PAGE_NAME}: {folder.resolve()}")
    lost = [f"{case_id}: has no prediction" for case_id in found.missing]
    return [message for _, message in found.failures] + lost


def remove_fold_results(folder: Path) -> None:
    """Remove the scores and the report of all cases that were written before; say so if any were.

    Raises:
        InputError: one of the files cannot be removed.
    """
    files = [folder / "scores" / name for name in FILE_NAMES]
    if any(path.exists() for path in files):
        print(f"earlier scores and report of all cases are removed: {folder.resolve()}")
    for path in files:
        remove_file(path)
    remove_report(folder / "report")


def _read_fold(folder: Path, record: RunRecord) -> Evaluation:
    """Read the scores of a fold; where no case could be scored, all of its cases are missing."""
    if not (folder / "scores").exists():
        return Evaluation(missing=tuple(record.held_out))
    return read_evaluation(folder / "scores")


def _link_predictions(folder: Path, scores: Mapping[Path, Evaluation]) -> None:
    """Link the scored predictions of all folds into one folder.

    Other links there are removed, and copies of predictions that have no score any more.
    """
    wanted, unscored = {}, set()
    for run, found in scores.items():
        lost = *(failure.case_id for failure in found.failures), *found.missing
        unscored |= {f"{case_id}.nii.gz" for case_id in lost}
        for case_id in found.case_ids:
            name = f"{case_id}.nii.gz"
            if (run / "predictions" / name).exists():
                wanted[name] = Path("..", run.name, "predictions", name)
    for path in folder.glob("*"):
        if path.name not in wanted and (path.is_symlink() or path.name in unscored):
            remove_file(path)
    for name, target in wanted.items():
        with atomic_write(folder / name) as temporary:
            with suppress(OSError, NotImplementedError):
                temporary.symlink_to(target)
            if not temporary.is_symlink():
                shutil.copy2(folder / target, temporary)
