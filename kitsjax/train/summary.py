"""The end of a run: score the held-out masks, write their report and `summary.json`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from kitsjax.data.kits import Case
from kitsjax.evaluate.evaluation import BOTH, evaluate
from kitsjax.evaluate.hu_threshold import fit_windows, threshold_scores
from kitsjax.evaluate.results import Evaluation
from kitsjax.evaluate.write_results import write_evaluation
from kitsjax.files import write_text
from kitsjax.image.read_nifti import read_label, read_volume
from kitsjax.image.volume import Volume
from kitsjax.labels import EVALUATION_CLASSES, MAJORITY
from kitsjax.report.report import write_report
from kitsjax.report.result_tables import Means, means_table, score_table
from kitsjax.report.table_format import to_text
from kitsjax.settings import Settings
from kitsjax.training_log import LOG_NAME, Row, read_epochs

_COLUMNS = ("dice", "surface_dice")


def report_scores(
    settings: Settings, folder: Path, train_cases: Sequence[Case], held_out: Sequence[Case]
) -> list[str]:
    """Score `predictions/` of a run folder; write `scores/`, `report/` and `summary.json`.

    With `train.threshold_baseline`, the best plain HU threshold on the training cases is also
    scored on the held-out cases, and its means stand beside the network's.

    Returns:
        One line for each case that could not be scored.
    """
    epochs = read_epochs(folder / LOG_NAME)
    summary = _summarize_epochs(epochs)
    failures: list[str] = []
    if held_out:
        found = evaluate(held_out, folder / "predictions", BOTH, settings.data.workers)
        failures = [message for _, message in found.failures]
        failures += [f"{case_id}: has no prediction" for case_id in found.missing]
        if found.scores:
            write_evaluation(folder / "scores", found)
            write_report(found, folder / "report", epochs)
            means = {"network": _network_means(found)}
            if settings.train.threshold_baseline:
                # The same cases as the network's: one that failed has no scores to compare with.
                scored = [case for case in held_out if case.case_id in found.case_ids]
                means["best HU threshold"] = _threshold_means(train_cases, scored)
            print(f"\n{to_text(score_table(found))}\n\n{to_text(means_table(means))}\n")
            summary |= _summarize_scores(means, len(found.case_ids))
    write_text(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    return failures


def _summarize_epochs(epochs: Sequence[Row]) -> dict[str, Any]:
    best = max(epochs, key=lambda row: row["pseudo_dice_average"])
    least = min(epochs, key=lambda row: row["validation_loss"])
    return {
        "epochs": len(epochs),
        "steps": epochs[-1]["step"],
        "best_epoch": best["epoch"],
        "pseudo_dice_average": best["pseudo_dice_average"],
        "least_validation_loss": least["validation_loss"],
        "least_validation_loss_epoch": least["epoch"],
    }


def _summarize_scores(means: Mapping[str, Means], cases: int) -> dict[str, Any]:
    baseline = means.get("best HU threshold")
    threshold = {} if baseline is None else {"best_hu_threshold": baseline}
    return {**threshold, "cases": cases, "classes": means["network"]}


def _network_means(found: Evaluation) -> Means:
    """Average each class's scores against the majority label over the cases."""
    return {
        name: {c: mean(found.table(MAJORITY, c)[name].values()) for c in _COLUMNS}
        for name in EVALUATION_CLASSES
    }


def _threshold_means(train_cases: Sequence[Case], held_out: Sequence[Case]) -> Means:
    """Fit the HU windows to the training cases and average their scores on the held-out cases."""
    windows = fit_windows((image.array, label.array) for image, label in map(_read, train_cases))
    rows = []
    for case in held_out:
        image, label = _read(case)
        rows.append(threshold_scores(image.array, label.array, label.spacing_mm, windows))
    return {
        name: {c: mean(getattr(row[name], c) for row in rows) for c in _COLUMNS}
        for name in EVALUATION_CLASSES
    }


def _read(case: Case) -> tuple[Volume, Volume]:
    return read_volume(case.image), read_label(case.label)
