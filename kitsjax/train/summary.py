"""The end of a run: held-out masks scored, `scores.csv`, `summary.json` and the table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from kitsjax.config import Settings
from kitsjax.data.geometry import Volume
from kitsjax.data.kits import Case
from kitsjax.data.volume import read_label, read_volume
from kitsjax.evaluate.figures import Slice, draw_segmentations
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
from kitsjax.labels import TUMOR
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
            _draw_best(rows, {c.case_id: c for c in held_out}, predictions, folder)
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


def _draw_best(
    rows: Sequence[Row], cases: Mapping[str, Case], predictions: Mapping[str, Path], folder: Path
) -> None:
    """`predictions.png`: the slice with most tumor of the four best cases."""

    def quality(row: Row) -> float:
        return sum(sum(scores) for scores in row.scores.values())

    slices = []
    for row in sorted(rows, key=quality, reverse=True)[:4]:
        image, truth = _read(cases[row.case_id])
        prediction = read_label(predictions[row.case_id]).array
        z = int((truth.array == TUMOR).sum((1, 2)).argmax())
        title = f"{row.case_id}: tumor Dice {row.scores['tumor'].dice:.2f}"
        spacing_mm = truth.spacing_mm[1:]
        slices.append(Slice(title, image.array[z], prediction[z], truth.array[z], spacing_mm))
    draw_segmentations(slices, folder / "predictions.png")


def _read(case: Case) -> tuple[Volume, Volume]:
    return read_volume(case.image), read_label(case.label)
