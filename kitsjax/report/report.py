"""Files of the results section: tables, figures, and the page that holds them all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kitsjax.errors import InputError
from kitsjax.evaluate.results import Evaluation
from kitsjax.files import remove_file, remove_leftovers, write_text
from kitsjax.report.absent_table import absent_table
from kitsjax.report.charts import plot_boxes, plot_sensitivity, plot_volume
from kitsjax.report.drawing import Drawing, save_drawing
from kitsjax.report.latex import to_latex
from kitsjax.report.lesion_tables import failure_table, sensitivity_table
from kitsjax.report.names import find_focus
from kitsjax.report.page import render_page
from kitsjax.report.result_tables import case_table, score_table, tidy_scores
from kitsjax.report.slices import plot_best, plot_worst
from kitsjax.report.table_format import Table, to_csv, to_markdown
from kitsjax.report.training_curves import plot_training
from kitsjax.report.views import find_files
from kitsjax.run_record import KeptEpoch

PAGE_NAME = "report.html"

_FORMATS = {"md": to_markdown, "csv": to_csv, "tex": to_latex}
"""What writes a table to text, by the suffix of its file."""

TABLES = ("table_1", "failure_modes", "sensitivity", "cases", "absent_classes")
"""Names of all tables; a report has some only where there is something to say (`make_tables`)."""


def write_report(
    evaluation: Evaluation,
    folder: str | Path,
    epochs: Sequence[Mapping[str, Any]] = (),
    compare: str | None = None,
    predictions: str | Path | None = None,
    dataset: str | Path | None = None,
    kept: KeptEpoch | None = None,
) -> list[Path]:
    """Write tables (Markdown, CSV, LaTeX), figures (PNG, PDF) and `report.html` to a folder.

    Equal arguments give equal bytes. A figure that cannot be drawn has no files, and its caption on
    the page says why. Files that an earlier report has of it, or of a table that this one lacks,
    are removed. Other files in the folder are left alone.

    Args:
        evaluation: scores of at least one case.
        folder: output folder; made if it does not exist.
        epochs: rows of the training log, for Figure 2; empty without a log.
        compare: a key of `mean_scores.PUBLISHED`, to show those scores beside ours.
        predictions, dataset: present places of the folders that were scored, if they have moved.
            Only Figures 3 and 6 read them.
        kept: the epoch whose parameters the run kept, for Figure 2; None if it is not known.

    Returns:
        The files written, the page last.

    Raises:
        InputError: No case was scored, `predictions` or `dataset` is not such a folder, or the
            output folder cannot be written.
    """
    if not evaluation.scores:
        raise InputError(
            "no case was scored, so there is nothing to report; see the evaluation's failures"
        )
    folder = Path(folder)
    remove_leftovers(folder)
    tables = make_tables(evaluation, compare)
    drawings = draw_figures(evaluation, epochs, predictions, dataset, kept)
    written = []
    for name, table in tables.items():
        contents = {suffix: write(table) for suffix, write in _FORMATS.items()}
        if name == "table_1":
            contents["csv"] = to_csv(tidy_scores(evaluation, compare))
        for suffix, content in contents.items():
            written.append(folder / f"{name}.{suffix}")
            write_text(written[-1], content)
    for name in set(TABLES) - set(tables):
        for suffix in _FORMATS:
            remove_file(folder / f"{name}.{suffix}")
    images = {}
    for drawing in drawings:
        files = save_drawing(drawing, folder)
        written += files
        if files:
            images[drawing.name] = files[0].read_bytes()
    written.append(folder / PAGE_NAME)
    write_text(written[-1], render_page(evaluation, tables, drawings, images))
    return written


def remove_report(folder: str | Path) -> None:
    """Remove the files of an earlier report, which was of other scores; there may be none.

    Raises:
        InputError: One of them cannot be removed.
    """
    folder = Path(folder)
    names = [f"{table}.{suffix}" for table in TABLES for suffix in _FORMATS]
    for path in (*map(folder.joinpath, names), *folder.glob("figure_*"), folder / PAGE_NAME):
        remove_file(path)


def make_tables(evaluation: Evaluation, compare: str | None = None) -> dict[str, Table]:
    """Make every table of the report, by the stem of its files.

    Without lesion labels there are no tables of lesions, and without a case that lacks a class none
    of what was found there.
    """
    lesions = {}
    if evaluation.scheme.lesions:
        lesions["failure_modes"] = failure_table(evaluation)
        lesions["sensitivity"] = sensitivity_table(evaluation)
    tables = {"table_1": score_table(evaluation, compare), **lesions}
    tables["cases"] = case_table(evaluation)
    if absent := absent_table(evaluation):
        tables["absent_classes"] = absent
    return tables


def draw_figures(
    evaluation: Evaluation,
    epochs: Sequence[Mapping[str, Any]],
    predictions: str | Path | None = None,
    dataset: str | Path | None = None,
    kept: KeptEpoch | None = None,
) -> list[Drawing]:
    """Draw every figure of the report, numbered as the paper's if the labels are KiTS's.

    Without lesion labels there are no figures of lesions, nor one of their volumes if the first of
    them is no class of its own.

    Args:
        evaluation: scores of the cases.
        epochs: rows of the training log, for Figure 2; empty without a log.
        predictions, dataset: present places of the folders that were scored, if they have moved.
        kept: the epoch whose parameters the run kept, for Figure 2; None if it is not known.

    Raises:
        InputError: `predictions` or `dataset` is not such a folder.
    """
    training = plot_training(epochs, kept)
    if not epochs:
        why = "no training log, or no epoch in it; give the run's folder with --run"
        training = training._replace(caption=f"Not drawn: {why}.")
    files = None
    if predictions or dataset:
        places = predictions or evaluation.predictions, dataset or evaluation.dataset
        files = find_files(*places, evaluation.layout)
    scheme = evaluation.scheme
    drawings = [
        training,
        plot_best(evaluation, files),
        plot_boxes(evaluation),
        *([plot_volume(evaluation)] if find_focus(scheme) else []),
        plot_worst(evaluation, files),
        *([plot_sensitivity(evaluation)] if scheme.lesions else []),
    ]
    return drawings if scheme.is_kits else _number(drawings)


def _number(drawings: Sequence[Drawing]) -> list[Drawing]:
    """Renumber figures from 1 on, without the gaps of those that are not drawn."""
    numbered = []
    for number, drawing in enumerate(drawings, 1):
        kind, title = drawing.name.split("_")[-1], drawing.title.split(". ", 1)[1]
        name = f"figure_{number}_{kind}"
        numbered.append(drawing._replace(name=name, title=f"Figure {number}. {title}"))
    return numbered
