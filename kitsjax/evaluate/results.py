"""What an evaluation holds: scores, lesions and failures.

`kitsjax.evaluate.write_results` writes these to a folder, `kitsjax.evaluate.read_results` reads
them back.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from kitsjax.data.open_dataset import AUTO
from kitsjax.labels import INDIVIDUAL, KITS, MAJORITY, LabelScheme

FORMAT = 3
"""Version of the written files. It rises when files of an earlier version could be misread.

Format 1 named the lesion outcomes differently: omitted, confused, false. Format 2 had no label
scheme, since all labels were KiTS's, and called the number of lesions `tumors`; it is read as well.
"""


class Score(NamedTuple):
    """Score of a case in one evaluation class, against one truth or the mean over several.

    Attributes:
        case_id: The case, such as `case_00000`.
        evaluation_class: Key of an evaluation class of the scheme.
        against: "majority", "individual" (the mean over all samples), or a sample's file name.
        samples: Number of truths that the numbers are the mean of.
        dice: Volumetric Dice, 0..1; 1 if both masks are empty, 0 if exactly one is.
        surface_dice: Surface Dice, 0..1; 1 if both masks are empty, 0 if exactly one is.
        hausdorff95_mm: Robust Hausdorff distance; nan if either mask is empty. A mean leaves
            out samples without a distance.
        prediction_cm3: Volume of the predicted mask.
        truth_cm3: Volume of the true mask.
        lesions: Number of true lesions of the scheme's first lesion label, tumors in KiTS; 0 for a
            scheme without lesions.
    """

    case_id: str
    evaluation_class: str
    against: str
    samples: int
    dice: float
    surface_dice: float
    hausdorff95_mm: float
    prediction_cm3: float
    truth_cm3: float
    lesions: int


class Lesion(NamedTuple):
    """A lesion of the truth (the majority label), or a false positive of the prediction.

    `kitsjax.evaluate.outcomes` defines the outcomes.

    Attributes:
        case_id: The case, such as `case_00000`.
        source: "truth", or "prediction" for a false positive.
        label: Name of a lesion label of the scheme, "tumor" or "cyst" in KiTS.
        number: Rank by falling volume within case, source and label; the largest is 1.
        volume_cm3: Volume of the lesion.
        outcome: Key of `outcomes.OUTCOMES`.
        covered: Share of the true lesion's voxels that are predicted as a mass, which is any
            lesion label, 0..1; nan for a false positive.
        excess: Share of the matching predicted lesions' voxels that lie outside every true mass,
            0..1; nan for a missed lesion and for a false positive.
        misclassified: Share of the mass voxels predicted inside the true lesion that have the
            label of another kind of mass, 0..1; nan for a missed lesion and for a false positive.
        slice: Axial slice, from 0, with most of the lesion's voxels.
    """

    case_id: str
    source: str
    label: str
    number: int
    volume_cm3: float
    outcome: str
    covered: float
    excess: float
    misclassified: float
    slice: int


class Failure(NamedTuple):
    """A case that could not be scored, and the reason in one line."""

    case_id: str
    message: str


@dataclass(frozen=True)
class Evaluation:
    """Everything found by scoring a folder of predictions.

    `pandas.DataFrame(evaluation.scores)` makes a tidy table, one observation a row; so do
    `.samples` and `.lesions`.

    Attributes:
        scores: One row for each case, kind of truth (MAJORITY, INDIVIDUAL) and evaluation class,
            sorted in this order.
        samples: One row for each case, annotation sample and evaluation class.
        lesions: True lesions, and the false positives of each case after them.
        failures: Cases that could not be scored.
        missing: Cases without a prediction.
        predictions: Absolute path of the folder of predictions.
        dataset: Absolute path of the data set.
        versions: Version of each package that the numbers depend on.
        scheme: Label scheme of predictions and truth.
        notes: What a reader should know of these scores, a sentence each.
        layout: Layout of the data set, a choice of the setting `data.layout`.
    """

    scores: tuple[Score, ...] = ()
    samples: tuple[Score, ...] = ()
    lesions: tuple[Lesion, ...] = ()
    failures: tuple[Failure, ...] = ()
    missing: tuple[str, ...] = ()
    predictions: str = ""
    dataset: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    scheme: LabelScheme = KITS
    notes: tuple[str, ...] = ()
    layout: str = AUTO

    @property
    def case_ids(self) -> list[str]:
        """Ids of the scored cases, sorted."""
        return sorted({score.case_id for score in self.scores})

    @property
    def against(self) -> list[str]:
        """Kinds of truth (MAJORITY, INDIVIDUAL) that the scores are against."""
        return [a for a in (MAJORITY, INDIVIDUAL) if any(s.against == a for s in self.scores)]

    def table(self, against: str, column: str = "dice") -> dict[str, dict[str, float]]:
        """Return a column of the scores as {evaluation class: {case id: value}}.

        Args:
            against: Kind of truth, MAJORITY or INDIVIDUAL.
            column: Field of `Score`.
        """
        rows = [score for score in self.scores if score.against == against]
        return {
            name: {s.case_id: getattr(s, column) for s in rows if s.evaluation_class == name}
            for name in self.scheme.evaluation_keys
        }

    def scored(self, against: str) -> set[str]:
        """Return the ids of the cases that were scored against a kind of truth."""
        return {score.case_id for score in self.scores if score.against == against}
