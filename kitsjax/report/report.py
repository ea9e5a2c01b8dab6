"""The results section of an evaluation as files: tables, figures and the page that holds them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kitsjax.errors import InputError
from kitsjax.evaluate.results import Evaluation
from kitsjax.files import write_text
from kitsjax.report.charts import plot_boxes, plot_sensitivity, plot_training, plot_volume
from kitsjax.report.drawing import Drawing, save_drawing
from kitsjax.report.page import render_page
from kitsjax.report.result_tables import (
    case_table,
    failure_table,
    score_table,
    sensitivity_table,
    tidy_scores,
)
from kitsjax.report.slices import plot_best, plot_worst
from kitsjax.report.table_format import Table, to_csv, to_latex, to_markdown
from kitsjax.report.views import find_files

PAGE_NAME = "report.html"

Row = Mapping[str, Any]


def write_report(
    evaluation: Evaluation,
    folder: str | Path,
    epochs: Sequence[Row] = (),
    compare: str | None = None,
    predictions: str | Path | None = None,
    dataset: str | Path | None = None,
) -> list[Path]:
    """Write tables (Markdown, CSV, LaTeX), figures (PNG, PDF) and `report.html` to a folder.

    Equal arguments give equal bytes. What cannot be drawn has no file, not even that of an earlier
    report, and its caption on the page says why; other files in the folder are left alone.

    Args:
        evaluation: of at least one case.
        folder: made if need be.
        epochs: rows of the training log, for Figure 2; none without a log.
        compare: a key of `tables.PUBLISHED`, whose scores are to stand beside ours.
        predictions, dataset: where these folders are now, if not where they were when scored. They
            are read for Figures 3 and 6 alone.

    Returns:
        The files written, the page last.

    Raises:
        InputError: no case was scored, `predictions` or `dataset` is no such folder, or the folder
            cannot be written.
    """
    if not evaluation.scores:
        raise InputError("no case was scored, so there is nothing to report; see those that failed")
    folder = Path(folder)
    tables = make_tables(evaluation, compare)
    drawings = draw_figures(evaluation, epochs, predictions, dataset)
    written = []
    for name, table in tables.items():
        contents = {"md": to_markdown(table), "csv": to_csv(table), "tex": to_latex(table)}
        if name == "table_1":
            contents["csv"] = to_csv(tidy_scores(evaluation, compare))
        for suffix, content in contents.items():
            written.append(folder / f"{name}.{suffix}")
            write_text(written[-1], content)
    images = {}
    for drawing in drawings:
        files = save_drawing(drawing, folder)
        written += files
        if files:
            images[drawing.name] = files[0].read_bytes()
    written.append(folder / PAGE_NAME)
    write_text(written[-1], render_page(evaluation, tables, drawings, images))
    return written


def make_tables(evaluation: Evaluation, compare: str | None = None) -> dict[str, Table]:
    """Every table of the report, by its file's stem."""
    return {
        "table_1": score_table(evaluation, compare),
        "failure_modes": failure_table(evaluation.lesions),
        "sensitivity": sensitivity_table(evaluation.lesions),
        "cases": case_table(evaluation),
    }


def draw_figures(
    evaluation: Evaluation,
    epochs: Sequence[Row],
    predictions: str | Path | None = None,
    dataset: str | Path | None = None,
) -> list[Drawing]:
    """Every figure of the report, arguments as of `write_report`."""
    training = plot_training(epochs)
    if not epochs:
        why = "no training log, or no epoch in it; give the run's folder with --run"
        training = training._replace(caption=f"Not drawn: {why}.")
    files = None
    if predictions or dataset:
        files = find_files(predictions or evaluation.predictions, dataset or evaluation.dataset)
    return [
        training,
        plot_best(evaluation, files),
        plot_boxes(evaluation),
        plot_volume(evaluation),
        plot_worst(evaluation, files),
        plot_sensitivity(evaluation.lesions),
    ]
