"""Score the steps of post-processing, in all combinations, on the prediction of one case.

The prediction and the truth are read once. Most steps change nothing in most cases, and what is the
same label map is scored once.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from kitsjax.data.case import Case
from kitsjax.evaluate.evaluate_case import read_case
from kitsjax.evaluate.ignored import remove_ignored
from kitsjax.evaluate.scoring import measure_label, score_case
from kitsjax.infer.postprocess import STEPS
from kitsjax.labels import BACKGROUND, MAJORITY, LabelScheme
from kitsjax.types import Spacing

VALUES: dict[str, tuple[Any, ...]] = {
    "lesions_touch_organ": (True,),
    "least_lesion_ml": (0.1, 0.5),
    "lesion_majority": (0.5, 0.8),
    "least_organ_ml": (1.0, 10.0),
    "largest_components": (2,),
    "fill_holes": ("slices", "volume"),
}
"""The values that are tried of each step, beside leaving it out."""

Choice = tuple[Any, ...]
"""The value of each step, in the steps' order; one that is 0, false or empty leaves it out."""


def list_choices(present: Mapping[str, Any]) -> list[Choice]:
    """List all combinations of the steps' values, the present one first.

    Args:
        present: the steps that a model has already, which are not left out.
    """
    return list(itertools.product(*(_list_values(name, present) for name in STEPS)))


def score_choices(
    present: Mapping[str, Any], scheme: LabelScheme, job: tuple[Case, Path]
) -> np.ndarray:
    """Score all choices on a case.

    Args:
        present: the steps that the prediction has behind it.
        scheme: what the labels mean.
        job: the case, and the file of its prediction.

    Returns:
        (choice, class, 2) Dice and surface Dice of each evaluation class, in the order of
        `list_choices`.

    Raises:
        InputError: See `evaluate_case.read_case`.
    """
    prediction, truth, _ = read_case(*job, (MAJORITY,), scheme)
    # Nothing outside the labels matters: the steps and scores see no edge of the volume.
    boxes = ndimage.find_objects(((prediction.array > 0) | (truth > 0)).view(np.uint8))
    label, truth = (
        array[boxes[0] if boxes else ...].astype(np.uint8) for array in (prediction.array, truth)
    )
    spacing_mm = prediction.spacing_mm
    scores = _Scores(truth, spacing_mm, prediction.grid.voxel_mm3, scheme)
    values = [_list_values(name, present) for name in STEPS]
    return np.array(scores.of_all(label, list(zip(STEPS, values, strict=True))))


def _list_values(name: str, present: Mapping[str, Any]) -> tuple[Any, ...]:
    """List the values of a step: the present one, and others that are tried."""
    first = present.get(name, type(VALUES[name][0])())
    return first, *(value for value in VALUES[name] if value != first)


class _Scores:
    """The scores of the label maps that the steps make of one prediction."""

    def __init__(
        self,
        truth: np.ndarray,
        spacing_mm: Spacing,
        voxel_mm3: float,
        scheme: LabelScheme,
    ) -> None:
        self.spacing_mm, self.voxel_mm3, self.scheme = spacing_mm, voxel_mm3, scheme
        _, annotated, self.ignored = remove_ignored(truth, truth, scheme)
        self.truth = measure_label(annotated, spacing_mm, scheme, self.ignored)
        self._known: dict[tuple[int, bytes], list[Any]] = {}

    def of_all(self, label: np.ndarray, steps: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """Score what the steps make of a label map, for all combinations of their values.

        The first value of a step is the present one, which the label map has behind it.
        """
        key = len(steps), hashlib.blake2b(np.ascontiguousarray(label).data).digest()
        if key not in self._known:
            self._known[key] = self._score_steps(label, steps) if steps else [self._score(label)]
        return self._known[key]

    def _score_steps(
        self, label: np.ndarray, steps: Sequence[tuple[str, tuple[Any, ...]]]
    ) -> list[Any]:
        (name, (_, *others)), *rest = steps
        made = (STEPS[name](label, self.voxel_mm3, self.scheme, value) for value in others)
        return [row for one in itertools.chain([label], made) for row in self.of_all(one, rest)]

    def _score(self, label: np.ndarray) -> list[list[float]]:
        if self.ignored is not None:
            label = np.where(self.ignored, BACKGROUND, label).astype(label.dtype)
        predicted = measure_label(label, self.spacing_mm, self.scheme, self.ignored)
        found = score_case(predicted, self.truth, self.spacing_mm, self.scheme)
        return [[score.dice, score.surface_dice] for score in found.values()]
