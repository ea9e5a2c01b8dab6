"""The end of a run: score the held-out masks, write their report and `summary.json`."""

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

from kitsjax.config import choose_scheme
from kitsjax.data.case import Case
from kitsjax.data.kits import list_annotation_files
from kitsjax.errors import InputError
from kitsjax.evaluate.absent_classes import find_absent_classes
from kitsjax.evaluate.hu_threshold import fit_windows, threshold_scores
from kitsjax.evaluate.results import FORMAT, Evaluation, Failure
from kitsjax.evaluate.write_results import write_evaluation
from kitsjax.failures import catch, describe_failure
from kitsjax.files import write_text
from kitsjax.hosts import barrier, is_main, tell_all
from kitsjax.image.read_nifti import read_label, read_volume
from kitsjax.image.volume import Volume, check_same_grid
from kitsjax.labels import MAJORITY, LabelScheme
from kitsjax.report.names import SCORE_NAMES
from kitsjax.report.report import PAGE_NAME, remove_report, write_report
from kitsjax.report.result_tables import Means, means_table, score_table
from kitsjax.report.table_format import to_text
from kitsjax.run_record import KeptEpoch, RunRecord, read_record, write_record
from kitsjax.settings import Settings, TrainSettings
from kitsjax.train.shared_scoring import evaluate_together
from kitsjax.training_log import LOG_NAME, Row, read_epochs

SUMMARY_NAME = "summary.json"
"""File name of the summary in a run folder."""

CHOSEN_EPOCH = (
    "Best epoch chosen by the pseudo-Dice of the held-out cases, so these scores are slightly "
    "optimistic."
)
"""The note beside the scores of a run's held-out cases."""

_logger = logging.getLogger(__name__)


def report_scores(
    settings: Settings,
    folder: Path,
    train_cases: Sequence[Case],
    held_out: Sequence[Case],
    unpredicted: Sequence[Failure] = (),
) -> list[str]:
    """Score `predictions/` of a run folder; write `scores/`, `report/` and `summary.json`.

    All hosts call it. Each scores its share of the cases, and the main process writes.

    With `train.threshold_baseline`, the best plain HU threshold on the training cases is also
    scored on the held-out cases, and its means stand beside the network's.

    If masks, true labels and all that was made from them are as the run's record says, nothing is
    scored again. The record is written last.

    Args:
        settings: all settings of the run, with intensities.
        folder: the run folder.
        train_cases: the cases that the threshold is fitted to.
        held_out: the cases to score.
        unpredicted: those of them whose prediction failed, and why. They get no score, even if the
            mask of an earlier prediction is there.

    Returns:
        One line for each case that could not be scored, on whichever host; those of `unpredicted`
        are not repeated.
    """
    # The other hosts may not see yet what the main process has written to the shared disk.
    record = read_record(folder) if is_main() else None
    scored = record.scored if record else ""
    as_recorded = bool(scored) and scored == hash_scored(settings, folder, held_out)
    current = as_recorded and not unpredicted
    if tell_all("looking at the scores", str(current)) == str(True):
        if record:
            print(f"scores are up to date: {len(held_out)} held-out cases")
            write_record(folder, record.model_copy(update={"stage": "finished"}))
        return []
    found = None
    if held_out:
        data, scheme = settings.data, choose_scheme(settings)
        found = evaluate_together(
            held_out, folder, data.workers, scheme, unpredicted, (CHOSEN_EPOCH,), data.layout
        )
    if record:
        _write_scores(settings, folder, train_cases, held_out, record, found)
    barrier("writing the report")
    told = {failure.message for failure in unpredicted}
    return [line for line in _list_failures(found) if line not in told]


def _list_failures(found: Evaluation | None) -> list[str]:
    if found is None:
        return []
    lost = [f"{case_id}: has no prediction" for case_id in found.missing]
    return [message for _, message in found.failures] + lost


def _write_scores(
    settings: Settings,
    folder: Path,
    train_cases: Sequence[Case],
    held_out: Sequence[Case],
    record: RunRecord,
    found: Evaluation | None,
) -> None:
    """Write scores, report and summary, print the tables, and note in the record what was scored.

    Args:
        settings, folder, train_cases, held_out: see `report_scores`.
        record: the run's record so far.
        found: the evaluation; None without held-out cases.
    """
    epochs = read_epochs(folder / LOG_NAME)
    summary = _summarize_epochs(settings.train, epochs, record.kept)
    if missing := summary.get("epochs_missing_in_log"):
        _logger.warning(
            "%s: %d of %d epochs are missing, so summary.json and Figure 2 are without them",
            folder / LOG_NAME, missing, settings.train.epochs,
        )  # fmt: skip
    if found:
        write_evaluation(folder / "scores", found)
    if found is None or not found.scores:
        remove_report(folder / "report")
    else:
        write_report(found, folder / "report", epochs, kept=record.kept)
        means = {"network": _network_means(found)}
        if settings.train.threshold_baseline:
            # The same cases as the network's: one that failed has no scores to compare with.
            same = [case for case in held_out if case.case_id in found.case_ids]
            if threshold := _threshold_means(train_cases, same, folder, found.scheme):
                means["best HU threshold"] = threshold
        print(f"\n{to_text(score_table(found))}\n\n{to_text(means_table(means, found.scheme))}\n")
        summary |= _summarize_scores(means, len(found.case_ids))
        if absent := find_absent_classes(found, MAJORITY):
            summary["absent_classes"] = [_without_nan(each._asdict()) for each in absent]
    write_text(folder / SUMMARY_NAME, json.dumps(summary, indent=1) + "\n")
    whole = found is not None and not _list_failures(found)
    scored = hash_scored(settings, folder, held_out) if whole else ""
    write_record(folder, record.model_copy(update={"stage": "finished", "scored": scored}))


def hash_scored(settings: Settings, folder: Path, held_out: Sequence[Case]) -> str:
    """Hash the names, sizes and times of the files that were scored and that scoring made."""
    files: list[Path] = []
    for case in held_out:
        files += [
            case.label,
            *(list_annotation_files(case.annotations) if case.annotations else ()),
        ]
    files += sorted(folder.glob("predictions/*")) + sorted(folder.glob("scores/*"))
    files.append(folder / SUMMARY_NAME)
    stats = [(path.name, path.stat()) for path in files if path.is_file()]
    # Whoever writes the report anew, with bin/report.py for example, changes no score.
    report = (folder / "report" / PAGE_NAME).is_file()
    content = [
        [FORMAT, version("kitsjax"), settings.train.threshold_baseline, report],
        [[name, found.st_size, found.st_mtime_ns] for name, found in stats],
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _summarize_epochs(
    train: TrainSettings, epochs: Sequence[Row], kept: KeptEpoch | None
) -> dict[str, Any]:
    """Summarize the training; what only the log tells is None where the log lacks its rows."""
    summary: dict[str, Any] = {
        "epochs": train.epochs,
        "steps": train.epochs * train.batches,
        "best_epoch": kept.epoch if kept else None,
        "pseudo_dice_average": kept.pseudo_dice_average if kept else None,
    }
    # Unknown and not finite losses are no least ones.
    losses = ((row.get("validation_loss"), row) for row in epochs)
    known = [row for loss, row in losses if loss is not None and math.isfinite(loss)]
    least = min(known, key=lambda row: row["validation_loss"], default=None)
    summary["least_validation_loss"] = least["validation_loss"] if least else None
    summary["least_validation_loss_epoch"] = least["epoch"] if least else None
    missing = train.epochs - len({row["epoch"] for row in epochs})
    return summary | ({"epochs_missing_in_log": missing} if missing else {})


def _summarize_scores(means: Mapping[str, Means], cases: int) -> dict[str, Any]:
    baseline = means.get("best HU threshold")
    threshold = {} if baseline is None else {"best_hu_threshold": baseline}
    return {**threshold, "cases": cases, "classes": means["network"]}


def _without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace nan, which JSON lacks, by None."""
    # Only nan differs from itself.
    return {name: value if value == value else None for name, value in values.items()}


def _network_means(found: Evaluation) -> Means:
    """Average each class's scores against the majority label over the cases."""
    return {
        name: {c: mean(found.table(MAJORITY, c)[name].values()) for c in SCORE_NAMES}
        for name in found.scheme.evaluation_keys
    }


def _threshold_means(
    train_cases: Sequence[Case], held_out: Sequence[Case], folder: Path, scheme: LabelScheme
) -> Means:
    """Fit the HU windows to the training cases and average their scores on the held-out cases.

    Cases that cannot be read are left out, and a note names each. Without any held-out case the
    means are empty.
    """
    train = _read_cases(train_cases, folder, scheme)
    windows = fit_windows(((image.array, label.array) for image, label in train), scheme)
    rows = [
        threshold_scores(image.array, label.array, label.spacing_mm, windows, scheme)
        for image, label in _read_cases(held_out, folder, scheme)
    ]
    if not rows:
        return {}
    return {
        name: {c: mean(getattr(row[name], c) for row in rows) for c in SCORE_NAMES}
        for name in scheme.evaluation_keys
    }


def _read_cases(
    cases: Sequence[Case], folder: Path, scheme: LabelScheme
) -> Iterator[tuple[Volume, Volume]]:
    """Read image and label of each case that can be read; `folder` gets the log of errors."""
    for case in cases:
        found = catch(_read, case, scheme)
        if isinstance(found, InputError):
            line = describe_failure(found, case.image, folder)
            _logger.warning("%s; the HU threshold is without it", line)
        else:
            yield found


def _read(case: Case, scheme: LabelScheme) -> tuple[Volume, Volume]:
    image, label = read_volume(case.image), read_label(case.label, scheme.values)
    check_same_grid(image.grid, label.grid)
    return image, label
