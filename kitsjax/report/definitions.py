"""Definitions on the report's page: of the classes, the scores and the lesions."""

from kitsjax.evaluate.lesions import LEAST_MM3, LEAST_SHARED
from kitsjax.evaluate.outcomes import MISCLASSIFIED, list_outcomes
from kitsjax.labels import KITS, LabelScheme

_DICE = "Twice the volume that prediction and truth share, over the sum of their volumes."

_SURFACE_DICE = (
    "The share of the area of both surfaces that lies within the class's tolerance of the other "
    "surface."
)

_KITS_TOLERANCES = (
    "The tolerances, published with KiTS21, exceed 95 % of the distances between the surfaces of "
    "two annotators."
)

_EMPTY = (
    "In Dice and in surface Dice, two empty masks score 1, and exactly one empty mask scores 0."
)

_HD95 = (
    "The Hausdorff distance without its outliers: 95 % of the area of each surface lies within "
    "this distance of the other surface."
)

_KITS_TRUTHS = [
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
]

_IGNORED = (
    "Voxels whose truth nobody annotated, value {value} in its label maps. They count in no score, "
    "no volume and no lesion, and surfaces are not measured where they touch one. Figures show "
    "them as background."
)


def define_terms(scheme: LabelScheme) -> list[tuple[str, str]]:
    """Define the terms of the page, with the numbers that the scores were made with."""
    classes = [
        (
            each.title,
            f"All voxels labeled {' or '.join(scheme.names[label] for label in each.labels)}. The "
            f"tolerance of the surface Dice is {each.tolerance_mm:.3f} mm.",
        )
        for each in scheme.evaluation
    ]
    surface = [_SURFACE_DICE, _EMPTY]
    if scheme.evaluation == KITS.evaluation:
        surface.insert(1, _KITS_TOLERANCES)
    terms = [*classes, ("Dice", _DICE), ("Surface Dice", " ".join(surface)), ("HD95", _HD95)]
    if scheme.is_kits:
        terms += _KITS_TRUTHS
    if scheme.ignore is not None:
        terms.append(("Ignored", _IGNORED.format(value=scheme.ignore)))
    if scheme.lesions:
        terms.append(("Lesion", _define_lesion(scheme)))
    return terms


def _define_lesion(scheme: LabelScheme) -> str:
    kinds = " or of ".join(scheme.names[label] for label in scheme.lesions)
    outcomes = (MISCLASSIFIED, "under-segmented", "over-segmented", "detected")
    listed = ", ".join(outcome for outcome in outcomes if outcome in list_outcomes(scheme))
    return (
        f"A connected component (26-neighborhood) of {kinds}, of at least {LEAST_MM3:.1f} mm³. A "
        "true and a predicted lesion match when they share "
        f"{100 * LEAST_SHARED:.0f} % of the smaller one. A matched lesion has the first of these "
        f"outcomes that applies: {listed}. Table 2 defines them."
    )
