"""The results section as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import PurePath
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from kitsjax.evaluate import lesions
from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import CLASSES, EVALUATION_CLASSES, EVALUATION_NAMES, INDIVIDUAL, MAJORITY
from kitsjax.report.drawing import Drawing
from kitsjax.report.table_format import Table

CSS_PIXELS_PER_INCH = 96

_AGAINST = {MAJORITY: "the majority label", INDIVIDUAL: "the individual annotations"}


class Picture(NamedTuple):
    """A drawing as the page shows it.

    Attributes:
        title, caption: of the drawing.
        alt: what the figure shows, for those who cannot see it.
        source: the figure as a data: URI; empty where there is none.
        width, height: in CSS pixels, at the size it was drawn for.
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
    """The page: UTF-8 HTML without scripts and without anything to load.

    Whatever comes from files, case ids and messages included, is escaped.

    Args:
        evaluation: what was scored, what was not, and where.
        tables: table_1, failure_modes, sensitivity and cases.
        drawings: those that `kitsjax.report.report.draw_figures` draws.
        images: PNG by name of the drawing; none where a drawing has no figure.
    """
    source = files("kitsjax.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(source).render(
        evaluation=evaluation,
        lead=_describe_scored(evaluation),
        unscored=_describe_unscored(evaluation),
        tables=tables,
        pictures={drawing.name: _embed(drawing, images.get(drawing.name)) for drawing in drawings},
        definitions=_define_terms(),
        provenance=[
            ("Predictions", evaluation.predictions),
            ("Data set", evaluation.dataset),
            ("Scored with", ", ".join(" ".join(item) for item in evaluation.versions.items())),
        ],
    )


def _describe_scored(evaluation: Evaluation) -> str:
    truths = " and ".join(_AGAINST[against] for against in evaluation.against)
    folder = "/".join(PurePath(evaluation.predictions).parts[-2:])
    return (
        f"{_count(len(evaluation.case_ids), 'case')} of the data set "
        f"“{PurePath(evaluation.dataset).name}”, predicted in “{folder}”, "
        f"scored against {truths}."
    )


def _describe_unscored(evaluation: Evaluation) -> str:
    """How many cases have no score, and why; empty where all have one."""
    parts = [
        f"{_count(len(cases), 'case')} {what}"
        for cases, what in (
            (evaluation.missing, "without a prediction"),
            (evaluation.failures, "that could not be scored"),
        )
        if cases
    ]
    return " and ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def _embed(drawing: Drawing, image: bytes | None) -> Picture:
    if drawing.figure is None or image is None:
        return Picture(drawing.title, drawing.caption)
    width, height = (round(CSS_PIXELS_PER_INCH * side) for side in drawing.figure.get_size_inches())
    return Picture(
        drawing.title,
        drawing.caption,
        f"{drawing.title}: {drawing.caption.split('. ')[0].rstrip('.')}.",
        f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}",
        width,
        height,
    )


def _define_terms() -> list[tuple[str, str]]:
    """The words of the page and what they mean, with the numbers that the scores were made with."""
    classes = [
        (
            EVALUATION_NAMES[name],
            f"The voxels labeled {' or '.join(CLASSES[label] for label in labels)}; tolerance of "
            f"the surface Dice {tolerance_mm:.3f} mm.",
        )
        for name, (labels, tolerance_mm) in EVALUATION_CLASSES.items()
    ]
    return [
        *classes,
        (
            "Dice",
            "Twice the volume that prediction and truth share, over the sum of their volumes.",
        ),
        (
            "Surface Dice",
            "The share of the area of both surfaces that lies within the class's tolerance of the "
            "other surface. The tolerances, published with KiTS21, are how far the surfaces of "
            "two annotators lie apart. Two empty masks score 1 and exactly one empty mask "
            "scores 0, in Dice and in surface Dice.",
        ),
        (
            "HD95",
            "The Hausdorff distance without its outliers: the distance within which 95 % of each "
            "surface's area lies from the other surface.",
        ),
        (
            "Majority",
            "Against one label map, in which more than half of the annotators of a kidney, tumor "
            "or cyst agree on its voxels.",
        ),
        (
            "Individual",
            "The mean of the scores against KiTS21's annotation samples, each of which takes one "
            "annotation of every kidney, tumor and cyst.",
        ),
        (
            "Lesion",
            "A connected part (26-neighborhood) of tumor or of cyst, of at least "
            f"{lesions.LEAST_MM3:.1f} mm³. A true and a predicted lesion match when they share "
            f"{100 * lesions.LEAST_SHARED:.0f} % of the smaller one. Of the outcomes under Table 2 "
            "a matched lesion has the first that holds: misclassified, under-segmented, "
            "over-segmented, detected.",
        ),
    ]
