"""HTML page of the results section: one file that needs no other and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

from kitsjax.evaluate.results import Evaluation
from kitsjax.report.definitions import define_terms
from kitsjax.report.drawing import Drawing
from kitsjax.report.names import count, find_focus, join_names, name_truth, pluralize
from kitsjax.report.table_format import Table
from kitsjax.report.template import embed_image, render_template

CSS_PIXELS_PER_INCH = 96
"""CSS defines an inch as this many of its pixels."""

MOST_NAMED = 5
"""The page's title names its labels, unless there are more."""


class Picture(NamedTuple):
    """A drawing as the page shows it.

    Attributes:
        title, caption: texts of the drawing.
        alt: description of the figure for those who cannot see it.
        source: the figure as a data: URI; empty where there is no figure.
        width, height: size that the figure was drawn for, in CSS pixels.
    """

    title: str
    caption: str
    alt: str = ""
    source: str = ""
    width: int = 0
    height: int = 0


def render_page(
    evaluation: Evaluation,
    tables: Mapping[str, Table],
    drawings: Sequence[Drawing],
    images: Mapping[str, bytes],
) -> str:
    """Render the page: HTML without scripts, which loads nothing else.

    Every text that comes from files is escaped, case ids and messages included.

    Args:
        evaluation: scores, lesions, and the cases that were not scored.
        tables: tables of `kitsjax.report.report.make_tables`, in the order of their numbers.
        drawings: drawings of `kitsjax.report.report.draw_figures`.
        images: PNG files by name of the drawing; drawings without a figure have none.
    """
    return render_template(
        "report/page.html.j2",
        evaluation=evaluation,
        title=_make_title(evaluation),
        focus=focus.title if (focus := find_focus(evaluation.scheme)) else "",
        lead=_describe_scored(evaluation),
        unscored=_describe_unscored(evaluation),
        tables=tables,
        numbers={name: number for number, name in enumerate(tables, 1)},
        pictures={
            drawing.name.split("_")[-1]: _embed(drawing, images.get(drawing.name))
            for drawing in drawings
        },
        definitions=define_terms(evaluation.scheme),
        provenance=[
            ("Predictions", evaluation.predictions),
            ("Data set", evaluation.dataset),
            ("Scored with", ", ".join(" ".join(item) for item in evaluation.versions.items())),
        ],
    )


def _make_title(evaluation: Evaluation) -> str:
    """Name the labels at the head of the page."""
    scheme = evaluation.scheme
    names = [scheme.names[value] for value in scheme.foreground]
    if scheme.is_kits:
        names = [pluralize(name) for name in names]
    if len(names) > MOST_NAMED:
        return f"Segmentation of {len(names)} labels"
    return f"Segmentation of {join_names(names, 'and')}"


def _describe_scored(evaluation: Evaluation) -> str:
    truths = " and ".join(name_truth(a, evaluation.scheme) for a in evaluation.against)
    folder = "/".join(PurePath(evaluation.predictions).parts[-2:])
    return (
        f"{count(len(evaluation.case_ids), 'case')} of the data set "
        f"“{PurePath(evaluation.dataset).name}”, predicted in “{folder}”, "
        f"scored against {truths}."
    )


def _describe_unscored(evaluation: Evaluation) -> str:
    """Count the cases without a score by reason; empty where every case has one."""
    parts = [
        f"{count(len(cases), 'case')} {reason}"
        for cases, reason in (
            (evaluation.missing, "without a prediction"),
            (evaluation.failures, "that could not be scored"),
        )
        if cases
    ]
    return " and ".join(parts)


def _embed(drawing: Drawing, image: bytes | None) -> Picture:
    if drawing.figure is None or image is None:
        return Picture(drawing.title, drawing.caption)
    width, height = (round(CSS_PIXELS_PER_INCH * side) for side in drawing.figure.get_size_inches())
    return Picture(
        drawing.title,
        drawing.caption,
        f"{drawing.title}: {drawing.caption.split('. ')[0].rstrip('.')}.",
        embed_image(image),
        width,
        height,
    )
