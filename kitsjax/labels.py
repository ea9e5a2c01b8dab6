"""Label values, evaluation classes, tolerances and colors of KiTS21, each with its source."""

from typing import NamedTuple

BACKGROUND, KIDNEY, TUMOR, CYST = 0, 1, 2, 3
"""Label values of a KiTS21 mask (KiTS19 has no cysts)."""

CLASSES = ("background", "kidney", "tumor", "cyst")
"""Names of the label values, by value."""

FOREGROUND = (KIDNEY, TUMOR, CYST)
"""Label values other than the background."""

PAINT_ORDER = (KIDNEY, CYST, TUMOR)
"""Later labels are painted over earlier ones when instances are merged (KiTS21 starter code)."""


class EvaluationClass(NamedTuple):
    """An evaluation class of KiTS21, a union of labels.

    Attributes:
        labels: label values whose union is the class.
        tolerance_mm: surface-Dice tolerance in mm; the inter-annotator 95th-percentile surface
            distance, as published with the KiTS21 evaluation code.
    """

    labels: tuple[int, ...]
    tolerance_mm: float


EVALUATION_CLASSES: dict[str, EvaluationClass] = {
    "kidney_and_mass": EvaluationClass((KIDNEY, TUMOR, CYST), 1.0330772532390826),
    "mass": EvaluationClass((TUMOR, CYST), 1.1328796488598762),
    "tumor": EvaluationClass((TUMOR,), 1.1498198361434828),
}

EVALUATION_NAMES = {"kidney_and_mass": "Kidney + Masses", "mass": "Masses", "tumor": "Tumor"}
"""Names of the evaluation classes in the paper's Table 1."""

REGIONS = ("kidney_and_mass", "mass", "tumor")
"""Evaluation classes that `loss.regions` trains. Each holds the next and one label more."""

MAJORITY, INDIVIDUAL = "majority", "individual"
"""Kinds of truth: the majority label, and the individual annotations (as annotation samples)."""

COLORS = {KIDNEY: "#d62728", TUMOR: "#2ca02c", CYST: "#1f77b4"}
"""Colors of the labels in the paper's Figures 3 and 6: kidney red, tumor green, cyst blue."""

CODES = {
    KIDNEY: (("91723000", "Anatomical Structure"), ("64033007", "Kidney")),
    TUMOR: (("49755003", "Morphologically Abnormal Structure"), ("108369006", "Neoplasm")),
    CYST: (("49755003", "Morphologically Abnormal Structure"), ("367643001", "Cyst")),
}
"""SNOMED CT codes of each label's category and type, as DICOM's context groups 7150 and 7159 list
them; for DICOM SEG."""

REGION_CODE = ("64033007", "Kidney")
"""SNOMED CT code of the organ in which the labels lie."""
