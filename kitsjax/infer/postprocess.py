"""Post-processing of predicted label maps: optional steps, none of which the paper has.

`STEPS` lists them in the order in which they are applied. Each is a pure function of

    label        label map (z, y, x), uint8; it is not written to
    voxel_mm3    volume of a voxel in mm³
    scheme       what the labels mean: its `lesions`, and the organ: its first other label
    value        the number or choice of the step, which is the setting of its name in [predict]

to a label map. Voxels touch by a face, an edge or a corner; a lesion is a component of voxels of
any lesion label, so that a tumor within a cyst is one with it. Memory grows with the labeled voxels
(some 100 bytes each at most), and by one copy of the label map, not with the CT.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from kitsjax.image.connect_voxels import NEIGHBORS, Voxels, connect_voxels, shift_voxels
from kitsjax.infer.holes import fill_holes
from kitsjax.labels import BACKGROUND, LabelScheme
from kitsjax.settings import PredictSettings

Label = UInt8[np.ndarray, "z y x"]

CHOICE = "postprocess"
"""Key of a model's provenance that says which steps were chosen by held-out scores, and why."""


def postprocess(
    label: Label,
    voxel_mm3: float,
    settings: PredictSettings,
    scheme: LabelScheme,
    certainty: Float[np.ndarray, " n"] | None = None,
) -> Label:
    """Apply the steps that the settings ask for; without any it is the label map itself.

    Args:
        label: the label map.
        voxel_mm3: volume of a voxel in mm³.
        settings: which steps.
        scheme: what the labels mean.
        certainty: see `replace_unsure_lesions`, which comes before the steps; None: it is left out.
    """
    if certainty is not None:
        label = replace_unsure_lesions(label, certainty, scheme, settings.least_lesion_certainty)
    for name, value in get_steps(settings).items():
        label = STEPS[name](label, voxel_mm3, scheme, value)
    return label


def get_steps(settings: PredictSettings) -> dict[str, Any]:
    """Return the value of each step that the settings ask for, in the steps' order."""
    values = {name: getattr(settings, name) for name in STEPS}
    return {name: value for name, value in values.items() if value}


def keep_choice(settings: PredictSettings, provenance: Mapping[str, Any]) -> PredictSettings:
    """Put the steps that were chosen for a model by held-out scores into its settings."""
    chosen = provenance.get(CHOICE, {}).get("steps", {})
    return PredictSettings.model_validate(settings.model_dump() | chosen)


def replace_unsure_lesions(
    label: Label, certainty: Float[np.ndarray, " n"], scheme: LabelScheme, value: float
) -> Label:
    """Turn lesions whose mean certainty is below `value` into the organ, or into background.

    They become the organ where they touch it. This is none of the `STEPS`, since these know the
    label map alone, as `bin/postprocess.py` does, which tries them on masks.

    Args:
        label: the label map as it was predicted.
        certainty: of each lesion voxel, in C order, the probability that it belongs to a lesion:
            the sum over the lesion labels.
        scheme: what the labels mean.
        value: from 0 to 1.
    """
    voxels, lesion = _find_lesions(label, scheme)
    unsure = np.bincount(lesion, certainty) < value * np.bincount(lesion)
    return _replace(label, voxels, lesion, unsure, scheme)


def require_organ(label: Label, voxel_mm3: float, scheme: LabelScheme, value: bool) -> Label:
    """Turn lesions that touch no voxel of the organ into background."""
    voxels, lesion = _find_lesions(label, scheme)
    organ = _find_organ(scheme)
    if organ is None:
        return label
    touching = _mark(lesion, _touches(label, voxels, organ))
    return _change(label, voxels, ~touching[lesion], BACKGROUND)


def replace_small_lesions(
    label: Label, voxel_mm3: float, scheme: LabelScheme, value: float
) -> Label:
    """Turn lesions below `value` ml into the organ where they touch it, else into background."""
    voxels, lesion = _find_lesions(label, scheme)
    small = np.bincount(lesion) * voxel_mm3 / 1000 < value
    return _replace(label, voxels, lesion, small, scheme)


def unify_lesions(label: Label, voxel_mm3: float, scheme: LabelScheme, value: float) -> Label:
    """Give each lesion its most frequent label, if at least the share `value` of it has that one.

    Of labels that are equally frequent it is the one whose number is lowest.
    """
    voxels, lesion = _find_lesions(label, scheme)
    own, lesions = label[voxels], np.array(sorted(scheme.lesions), np.uint8)
    counts = np.array([np.bincount(lesion, own == each) for each in lesions])
    if not counts.any():
        return label
    uniform = counts.max(axis=0) >= value * counts.sum(axis=0)
    most = lesions[counts.argmax(axis=0)][lesion]
    chosen = uniform[lesion] & (most != own)
    return _change(label, voxels, chosen, most[chosen])


def remove_detached(label: Label, voxel_mm3: float, scheme: LabelScheme, value: float) -> Label:
    """Turn components of any labels with less than `value` ml of the organ into background.

    Most of those without any are other organs that were taken for a lesion. All stay in a scheme
    without lesions, whose labels may be separate organs, or of lesions alone.
    """
    organ = _find_organ(scheme)
    if not scheme.lesions or organ is None:
        return label
    voxels = np.nonzero(label)
    component = connect_voxels(voxels, label.shape)
    organ_ml = np.bincount(component, label[voxels] == organ) * voxel_mm3 / 1000
    return _change(label, voxels, (organ_ml < value)[component], BACKGROUND)


def keep_largest(label: Label, voxel_mm3: float, scheme: LabelScheme, value: int) -> Label:
    """Keep the `value` largest components of any labels; of equal ones the first in the volume."""
    voxels = np.nonzero(label)
    component = connect_voxels(voxels, label.shape)
    order = np.argsort(-np.bincount(component), kind="stable")
    kept = np.zeros(len(order), bool)
    kept[order[:value]] = True
    return _change(label, voxels, ~kept[component], BACKGROUND)


STEPS: dict[str, Callable[[Label, float, LabelScheme, Any], Label]] = {
    "lesions_touch_organ": require_organ,
    "least_lesion_ml": replace_small_lesions,
    "lesion_majority": unify_lesions,
    "least_organ_ml": remove_detached,
    "largest_components": keep_largest,
    "fill_holes": fill_holes,
}
"""The function of each step, by its setting in [predict]; a setting that is 0, false or empty
leaves its step out."""


def _find_organ(scheme: LabelScheme) -> int | None:
    """Return the first label that is no lesion; None in a scheme of lesions alone."""
    return next((label for label in scheme.foreground if label not in scheme.lesions), None)


def _find_lesions(label: Label, scheme: LabelScheme) -> tuple[Voxels, np.ndarray]:
    """List the voxels of all lesions, and the number of the lesion (n,) that each belongs to."""
    # np.isin would need nine bytes for each voxel of the label map.
    mask = np.zeros(label.shape, bool)
    for value in scheme.lesions:
        mask |= label == value
    voxels = np.nonzero(mask)
    return voxels, connect_voxels(voxels, label.shape)


def _touches(label: Label, voxels: Voxels, value: int) -> np.ndarray:
    """Tell of each listed voxel (n,) whether it touches a voxel of this label."""
    found = np.zeros(len(voxels[0]), bool)
    for offset in NEIGHBORS:
        found |= label[shift_voxels(voxels, offset, label.shape)] == value
    return found


def _mark(component: np.ndarray, of_voxel: np.ndarray) -> np.ndarray:
    """Tell of each component whether any of its voxels is marked."""
    return np.bincount(component, of_voxel) > 0


def _replace(
    label: Label, voxels: Voxels, lesion: np.ndarray, chosen: np.ndarray, scheme: LabelScheme
) -> Label:
    """Turn the chosen lesions into the organ where they touch it, else into background."""
    organ, chosen = _find_organ(scheme), chosen[lesion]
    wanted = np.full(len(lesion), BACKGROUND, np.uint8)
    if organ is not None:
        wanted[_mark(lesion, _touches(label, voxels, organ))[lesion]] = organ
    return _change(label, voxels, chosen, wanted[chosen])


def _change(label: Label, voxels: Voxels, chosen: np.ndarray, value: int | np.ndarray) -> Label:
    """Give the chosen ones of the listed voxels a label, or each its own; a copy if any are."""
    if not chosen.any():
        return label
    # In the memory order of the CT's file, as the label map was made.
    changed = label.copy(order="K")
    changed[tuple(axis[chosen] for axis in voxels)] = value
    return changed
