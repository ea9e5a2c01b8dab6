"""The end of a run: held-out masks scored, their tables, figures and page, and `summary.json`."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from kitsjax.data.kits import Case
from kitsjax.evaluate.evaluation import BOTH, evaluate
from kitsjax.evaluate.results import Evaluation
from kitsjax.evaluate.threshold import fit_windows, threshold_scores
from kitsjax.evaluate.write_results import write_evaluation
from kitsjax.files import write_text
from kitsjax.image.read_nifti import read_label, read_volume
from kitsjax.image.volume import Volume
from kitsjax.labels import EVALUATION_CLASSES, MAJORITY
from kitsjax.report.report import write_report
from kitsjax.report.result_tables import Means, means_table, score_table
from kitsjax.report.table_format import to_text
from kitsjax.settings import Settings
from kitsjax.training_log import LOG_NAME, read_epochs


def report_scores(
    settings: Settings, folder: Path, train: Sequence[Case], held_out: Sequence[Case]
) -> list[str]:
    """Score `predictions/` of a run folder, write `scores/`, `report/` and `summary.json`.

    With `train.threshold_baseline`, the best plain HU threshold of the training cases is scored on
    the held-out cases too, and stands beside the network.

    Returns:
        What could not be scored, a line each.
    """
    epochs = read_epochs(folder / LOG_NAME)
    best = max(epochs, key=lambda row: row["pseudo_dice_average"])
    least = min(epochs, key=lambda row: row["validation_loss"])
    summary = {
        "epochs": len(epochs),
        "steps": epochs[-1]["step"],
        "best_epoch": best["epoch"],
        "pseudo_dice_average": best["pseudo_dice_average"],
        "least_validation_loss": least["validation_loss"],
        "least_validation_loss_epoch": least["epoch"],
    }
    failures = []
    if held_out:
        found = evaluate(held_out, folder / "predictions", BOTH, settings.data.workers)
        failures = [message for _, message in found.failures]
        failures += [f"{case_id}: has no prediction" for case_id in found.missing]
        if found.scores:
            write_evaluation(folder / "scores", found)
            write_report(found, folder / "report", epochs)
            table = {"network": _means(found)}
            if settings.train.threshold_baseline:
                table["best HU threshold"] = _threshold_means(train, held_out)
                summary["best_hu_threshold"] = table["best HU threshold"]
            summary |= {"cases": len(found.case_ids), "classes": table["network"]}
            print(f"\n{to_text(score_table(found))}\n\n{to_text(means_table(table))}\n")
    write_text(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    return failures


def _means(found: Evaluation) -> Means:
    return {
        name: {
            column: mean(found.table(MAJORITY, column)[name].values())
            for column in ("dice", "surface_dice")
        }
        for name in EVALUATION_CLASSES
    }


def _threshold_means(train: Sequence[Case], held_out: Sequence[Case]) -> Means:
    windows = fit_windows((image.array, label.array) for image, label in map(_read, train))
    rows = []
    for case in held_out:
        image, label = _read(case)
        rows.append(threshold_scores(image.array, label.array, label.spacing_mm, windows))
    return {
        name: {
            column: mean(getattr(row[name], column) for row in rows)
            for column in ("dice", "surface_dice")
        }
        for name in EVALUATION_CLASSES
    }


def _read(case: Case) -> tuple[Volume, Volume]:
    return read_volume(case.image), read_label(case.label)
