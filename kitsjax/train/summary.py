"""The end of a run: held-out masks scored, `scores.csv`, `summary.json` and the table."""

import json
from collections.abc import Sequence
from pathlib import Path

from kitsjax.config import Settings
from kitsjax.data.kits import Case
from kitsjax.data.volume import Volume, read_label, read_volume
from kitsjax.evaluate.scoring import (
    Failure,
    Means,
    Row,
    format_table,
    mean_scores,
    score_folder,
    write_scores,
)
from kitsjax.evaluate.threshold import fit_windows, threshold_scores
from kitsjax.files import write_text
from kitsjax.train.tracking import read_rows


def report_scores(
    settings: Settings, folder: Path, train: Sequence[Case], held_out: Sequence[Case]
) -> list[Failure]:
    """Score `predictions/` of a run folder against the majority label and print the table.

    With `train.threshold_baseline`, the best plain HU threshold of the training cases is scored on
    the held-out cases too, and stands beside the network.

    Returns:
        The cases that could not be scored.
    """
    epochs = [row for row in read_rows(folder / "metrics.jsonl") if row["kind"] == "epoch"]
    best = max(epochs, key=lambda row: row["dice_average"])
    least = min(epochs, key=lambda row: row["validation_loss"])
    summary = {
        "epochs": len(epochs),
        "steps": epochs[-1]["step"],
        "best_epoch": best["epoch"],
        "composite_dice_average": best["dice_average"],
        "least_validation_loss": least["validation_loss"],
        "least_validation_loss_epoch": least["epoch"],
    }
    failures: list[Failure] = []
    if held_out:
        predictions = {c.case_id: folder / "predictions" / f"{c.case_id}.nii.gz" for c in held_out}
        truths = {c.case_id: c.label for c in held_out}
        rows, failures = score_folder(predictions, truths, settings.data.workers)
        write_scores(folder / "scores.csv", rows)
        if rows:
            table = {"network": mean_scores(rows)}
            if settings.train.threshold_baseline:
                table["best HU threshold"] = _threshold_means(train, held_out)
                summary["best_hu_threshold"] = table["best HU threshold"]
            summary |= {"cases": len(rows), "classes": table["network"]}
            print(f"\n{format_table(table)}\n\nmeans over {len(rows)} held-out case(s)")
    write_text(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    return failures


def _threshold_means(train: Sequence[Case], held_out: Sequence[Case]) -> Means:
    windows = fit_windows((image.array, label.array) for image, label in map(_read, train))
    rows = []
    for case in held_out:
        image, label = _read(case)
        scores = threshold_scores(image.array, label.array, label.spacing_mm, windows)
        rows.append(Row(case.case_id, scores))
    return mean_scores(rows)


def _read(case: Case) -> tuple[Volume, Volume]:
    return read_volume(case.image), read_label(case.label)
