"""Label schemes: the label values of a data set, their names, and the classes that are scored.

A scheme is a value that settings, model files and results carry. `KITS` is the default: KiTS21's.
"""

from dataclasses import dataclass
from typing import NamedTuple

BACKGROUND = 0
"""Label value of the background in every scheme."""

MAJORITY, INDIVIDUAL = "majority", "individual"
"""Kinds of truth: the majority label, and the individual annotations (as annotation samples)."""

_PALETTE = (
    "#d62728", "#2ca02c", "#1f77b4", "#ff7f0e", "#9467bd",
    "#8c564b", "#e377c2", "#bcbd22", "#17becf", "#f0e442",
)  # fmt: skip
"""Colors of labels that bring none: matplotlib's, red first, with yellow in place of gray, which a
CT hides; over again after the last."""


class Code(NamedTuple):
    """A SNOMED CT concept: its identifier and its meaning in words."""

    value: str
    meaning: str


class EvaluationClass(NamedTuple):
    """A class that is scored, a union of labels.

    Attributes:
        key: identifier in files of scores, such as "kidney_and_mass".
        title: name in tables and figures, such as "Kidney + Masses".
        labels: label values whose union is the class.
        tolerance_mm: tolerance of the surface Dice, mm.
    """

    key: str
    title: str
    labels: tuple[int, ...]
    tolerance_mm: float


@dataclass(frozen=True)
class LabelScheme:
    """What the values of a label map mean. It can be compared, hashed and used as a dictionary key.

    Attributes:
        names: name of each label value from 0, which is the background.
        evaluation: classes to score, the most inclusive first.
        lesions: label values whose connected components are counted as lesions; () for none.
        colors: color of each label value from 1, as "#rrggbb"; () takes a palette's.
        ignore: value of voxels that nobody annotated, which count in no loss, no sampling and no
            score; None if every voxel is annotated. It is the number of names, the next value.
        paint_order: label values in the order in which instances are painted, later ones over
            earlier ones; () is the order of values.
        codes: SNOMED CT category and type of each label value from 1; () if there are none.
        region_code: SNOMED CT concept of the organ in which the labels lie, if any.

    Raises:
        ValueError: The attributes contradict each other; the message says which.
    """

    names: tuple[str, ...]
    evaluation: tuple[EvaluationClass, ...]
    lesions: tuple[int, ...] = ()
    colors: tuple[str, ...] = ()
    ignore: int | None = None
    paint_order: tuple[int, ...] = ()
    codes: tuple[tuple[Code, Code], ...] = ()
    region_code: Code | None = None

    def __post_init__(self) -> None:
        """Check the attributes, and fill in the colors and the order of painting."""
        if not self.colors:
            colors = tuple(_PALETTE[i % len(_PALETTE)] for i in range(len(self.foreground)))
            object.__setattr__(self, "colors", colors)
        if not self.paint_order:
            object.__setattr__(self, "paint_order", self.foreground)
        if problem := self._find_problem():
            raise ValueError(problem)

    @property
    def foreground(self) -> tuple[int, ...]:
        """Label values other than the background and `ignore`."""
        return tuple(range(1, len(self.names)))

    @property
    def values(self) -> tuple[int, ...]:
        """All values that a label map of a case may hold: background, foreground, `ignore`."""
        return tuple(range(len(self.names) + (self.ignore is not None)))

    @property
    def evaluation_keys(self) -> tuple[str, ...]:
        """Keys of the evaluation classes."""
        return tuple(each.key for each in self.evaluation)

    @property
    def titles(self) -> dict[str, str]:
        """Names of the evaluation classes in tables and figures, by key."""
        return {each.key: each.title for each in self.evaluation}

    @property
    def nested_labels(self) -> tuple[int, ...]:
        """The label that each evaluation class has and the next one lacks, class by class.

        Empty unless the classes are such a chain, from the union of all labels to a single one.
        """
        unions = [frozenset(each.labels) for each in self.evaluation]
        smaller = [*unions[1:], frozenset()]
        own = [union - inner for union, inner in zip(unions, smaller, strict=True)]
        is_chain = all(inner < union for union, inner in zip(unions, smaller, strict=True))
        if not is_chain or len(unions) != len(self.foreground) or any(len(o) != 1 for o in own):
            return ()
        return tuple(label for (label,) in own)

    def find_class(self, key: str) -> EvaluationClass:
        """Return the evaluation class with this key.

        Raises:
            KeyError: No class has it.
        """
        for each in self.evaluation:
            if each.key == key:
                return each
        raise KeyError(key)

    def color(self, value: int) -> str:
        """Return the color of a label value from 1."""
        return self.colors[value - 1]

    @property
    def is_kits(self) -> bool:
        """Whether the labels are KiTS's: those that annotators and publications of KiTS name."""
        return self.names == KITS.names

    def _find_problem(self) -> str:
        """Say what is wrong with the attributes; empty if nothing is."""
        if len(self.names) < 2:
            return "a label scheme needs the background and a label at least"
        if len(self.names) > 255:
            return f"{len(self.names)} labels are too many; label maps are stored in 8 bits"
        if len(set(self.names)) < len(self.names) or not all(self.names):
            return "every label needs a name of its own"
        if not self.evaluation or len(set(self.evaluation_keys)) < len(self.evaluation):
            return "a label scheme needs evaluation classes with different keys"
        for each in self.evaluation:
            if not each.labels or not set(each.labels) <= set(self.foreground):
                return f"evaluation class {each.key}: not a union of labels from 1"
            if not each.tolerance_mm > 0:
                return f"evaluation class {each.key}: the tolerance must be above 0 mm"
        if not set(self.lesions) <= set(self.foreground):
            return "lesions must be labels from 1"
        if self.ignore not in (None, len(self.names)):
            return f"ignore = {self.ignore}: must be {len(self.names)}, the value after the last"
        if sorted(self.paint_order) != list(self.foreground):
            return "the order of painting must name every label from 1 once"
        counts = {"colors": len(self.colors), "codes": len(self.codes) or len(self.foreground)}
        for what, count in counts.items():
            if count != len(self.foreground):
                return f"{what}: give one for each of the {len(self.foreground)} labels from 1"
        return ""


KIDNEY, TUMOR, CYST = 1, 2, 3
"""Label values of KiTS, for the phantom and for `KITS` (KiTS19 has no cysts)."""

KITS = LabelScheme(
    names=("background", "kidney", "tumor", "cyst"),
    # Tolerances are the inter-annotator 95th-percentile surface distances that the KiTS21
    # evaluation code publishes. Titles are those of the paper's Table 1.
    evaluation=(
        EvaluationClass(
            "kidney_and_mass", "Kidney + Masses", (KIDNEY, TUMOR, CYST), 1.0330772532390826
        ),
        EvaluationClass("mass", "Masses", (TUMOR, CYST), 1.1328796488598762),
        EvaluationClass("tumor", "Tumor", (TUMOR,), 1.1498198361434828),
    ),
    lesions=(TUMOR, CYST),
    # The paper's Figures 3 and 6: kidney red, tumor green, cyst blue.
    colors=("#d62728", "#2ca02c", "#1f77b4"),
    # As the KiTS21 starter code paints instances.
    paint_order=(KIDNEY, CYST, TUMOR),
    # As DICOM's context groups 7150 and 7159 list them.
    codes=(
        (Code("91723000", "Anatomical Structure"), Code("64033007", "Kidney")),
        (Code("49755003", "Morphologically Abnormal Structure"), Code("108369006", "Neoplasm")),
        (Code("49755003", "Morphologically Abnormal Structure"), Code("367643001", "Cyst")),
    ),
    region_code=Code("64033007", "Kidney"),
)
"""The labels of KiTS21, with the three hierarchical evaluation classes of the challenge."""
