"""HTML page of the results section: one file that needs no other and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

from kitsjax.evaluate import lesions
from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import CLASSES, EVALUATION_CLASSES, EVALUATION_NAMES
from kitsjax.report.drawing import Drawing
from kitsjax.report.names import TRUTH_NAMES, count
from kitsjax.report.table_format import Table
from kitsjax.report.template import embed_image, render_template

CSS_PIXELS_PER_INCH = 96
"""CSS defines an inch as this many of its pixels."""


_TERMS = [
    (
        "Dice",
        "Twice the volume that prediction and truth share, over the sum of their volumes.",
    ),
    (
        "Surface Dice",
        "The share of the area of both surfaces that lies within the class's tolerance of the "
        "other surface. The tolerances, published with KiTS21, exceed 95 % of the distances "
        "between the surfaces of two annotators. In Dice and in surface Dice, two empty masks "
        "score 1, and exactly one empty mask scores 0.",
    ),
    (
        "HD95",
        "The Hausdorff distance without its outliers: 95 % of the area of each surface lies "
        "within this distance of the other surface.",
    ),
    (
        "Majority",
        "Scores against one label map, in which a kidney, tumor or cyst has the voxels that "
        "more than half of its annotators marked.",
    ),
    (
        "Individual",
        "Means of the scores against KiTS21's annotation samples, each of which has one "
        "annotation of every kidney, tumor and cyst.",
    ),
    (
        "Lesion",
        "A connected component (26-neighborhood) of tumor or of cyst, of at least "
        f"{lesions.LEAST_MM3:.1f} mm³. A true and a predicted lesion match when they share "
        f"{100 * lesions.LEAST_SHARED:.0f} % of the smaller one. A matched lesion has the "
        "first of these outcomes that applies: misclassified, under-segmented, over-segmented, "
        "detected. Table 2 defines them.",
    ),
]
"""Terms of the page and their meanings."""


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
        tables: table_1, failure_modes, sensitivity and cases.
        drawings: drawings of `kitsjax.report.report.draw_figures`.
        images: PNG files by name of the drawing; drawings without a figure have none.
    """
    return render_template(
        "report/page.html.j2",
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
    truths = " and ".join(TRUTH_NAMES[against] for against in evaluation.against)
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


def _define_terms() -> list[tuple[str, str]]:
    """Define the terms of the page, with the numbers that the scores were made with."""
    classes = [
        (
            EVALUATION_NAMES[name],
            f"All voxels labeled {' or '.join(CLASSES[label] for label in labels)}. The tolerance "
            f"of the surface Dice is {tolerance_mm:.3f} mm.",
        )
        for name, _, labels, tolerance_mm in EVALUATION_CLASSES.values()
    ]
    return [*classes, *_TERMS]
