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

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from kitsjax.image.connect_voxels import Voxels, connect_voxels
from kitsjax.labels import BACKGROUND, LabelScheme
from kitsjax.settings import PredictSettings

Label = UInt8[np.ndarray, "z y x"]

_Offsets = list[tuple[int, ...]]

_NEIGHBORS: _Offsets = [o for o in itertools.product((-1, 0, 1), repeat=3) if any(o)]
_FACES: _Offsets = [o for o in _NEIGHBORS if sum(map(abs, o)) == 1]

CHOICE = "postprocess"
"""Key of a model's provenance that says which steps were chosen by held-out scores, and why."""


def postprocess(
    label: Label, voxel_mm3: float, settings: PredictSettings, scheme: LabelScheme
) -> Label:
    """Apply the steps that the settings ask for; without any it is the label map itself."""
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
    small = (np.bincount(lesion) * voxel_mm3 / 1000 < value)[lesion]
    organ = _find_organ(scheme)
    if organ is not None:
        touching = _mark(lesion, _touches(label, voxels, organ))[lesion]
        label = _change(label, voxels, small & touching, organ)
        small &= ~touching
    return _change(label, voxels, small, BACKGROUND)


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


def fill_holes(label: Label, voxel_mm3: float, scheme: LabelScheme, value: str) -> Label:
    """Give each hole the label that most faces around it have; of equally many the lowest.

    A hole is a part of the background, connected by faces, that labeled voxels enclose: within its
    axial slice with `value` "slices", on all sides with "volume".
    """
    depth = int(value == "volume")
    boxes = _component_boxes(label) if depth else _slice_boxes(label)
    offsets = [offset for offset in _FACES if depth or not offset[0]]
    filled = label
    for hole in itertools.chain.from_iterable(_find_holes(label, box, depth) for box in boxes):
        around = np.concatenate([label[_shift(hole, o, label.shape)] for o in offsets])
        filled = label.copy(order="K") if filled is label else filled
        filled[hole] = np.bincount(around[around > BACKGROUND]).argmax()
    return filled


STEPS: dict[str, Callable[[Label, float, LabelScheme, Any], Label]] = {
    "lesions_touch_organ": require_organ,
    "least_lesion_ml": replace_small_lesions,
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
    for offset in _NEIGHBORS:
        found |= label[_shift(voxels, offset, label.shape)] == value
    return found


def _shift(voxels: Voxels, offset: tuple[int, ...], shape: tuple[int, ...]) -> Voxels:
    """Shift voxels, but not over the volume's edge, which leads to another of their neighbors."""
    axes = zip(voxels, offset, shape, strict=True)
    return tuple(np.clip(axis + step, 0, size - 1) for axis, step, size in axes)


def _mark(component: np.ndarray, of_voxel: np.ndarray) -> np.ndarray:
    """Tell of each component whether any of its voxels is marked."""
    return np.bincount(component, of_voxel) > 0


def _change(label: Label, voxels: Voxels, chosen: np.ndarray, value: int) -> Label:
    """Give the chosen ones of the listed voxels a label, in a copy if there are any."""
    if not chosen.any():
        return label
    # In the memory order of the CT's file, as the label map was made.
    changed = label.copy(order="K")
    changed[tuple(axis[chosen] for axis in voxels)] = value
    return changed


def _slice_boxes(label: Label) -> Iterator[tuple[slice, ...]]:
    """Yield the box around the labeled voxels of each axial slice that has some."""
    for z, plane in enumerate(label):
        for box in ndimage.find_objects((plane > BACKGROUND).view(np.uint8)):
            yield slice(z, z + 1), *box


def _component_boxes(label: Label) -> Iterator[tuple[slice, ...]]:
    """Yield the box around each component of labeled voxels: a hole lies within one of them."""
    voxels = np.nonzero(label)
    for part in _split(voxels, connect_voxels(voxels, label.shape)):
        yield tuple(slice(axis.min(), axis.max() + 1) for axis in part)


def _find_holes(label: Label, box: tuple[slice, ...], depth: int) -> Iterator[Voxels]:
    """Yield the voxels of each hole in a box, outside of which is background.

    Args:
        label: the label map.
        box: slices (z, y, x).
        depth: 1; or 0 for a single slice, before and behind which nothing is looked at.
    """
    widths = ((depth, depth), (1, 1), (1, 1))
    # The first part holds the first voxel, which is outside, and all that touches the border.
    parts, _ = ndimage.label(np.pad(label[box] == BACKGROUND, widths, constant_values=True))
    voxels = np.nonzero(parts > 1)
    numbers = parts[voxels] - 2
    starts = [side.start - width for side, (width, _) in zip(box, widths, strict=True)]
    yield from _split(tuple(a + s for a, s in zip(voxels, starts, strict=True)), numbers)


def _split(voxels: Voxels, component: np.ndarray) -> Iterator[Voxels]:
    """Yield the voxels of each component, of which there may be none."""
    if len(component):
        order = np.argsort(component, kind="stable")
        for part in np.split(order, np.cumsum(np.bincount(component))[:-1]):
            yield tuple(axis[part] for axis in voxels)
