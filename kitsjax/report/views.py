"""Views of a case for Figures 3 and 6: its files, the slice to show, and the part of it to show."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kitsjax.data.open_dataset import AUTO, open_dataset
from kitsjax.errors import InputError, UnforeseenError
from kitsjax.evaluate.evaluation import find_predictions
from kitsjax.evaluate.ignored import remove_ignored
from kitsjax.evaluate.results import Lesion
from kitsjax.evaluate.scoring import union_mask
from kitsjax.failures import catch
from kitsjax.image.case_names import find_named
from kitsjax.image.read_nifti import read_label, read_volume
from kitsjax.image.volume import Grid, Volume, check_same_grid
from kitsjax.labels import LabelScheme
from kitsjax.report.names import find_focus

_logger = logging.getLogger(__name__)

MARGIN_MM = 12.0
"""Width of the margin around everything that is labeled."""

LEAST_HEIGHT_MM = 150.0
"""Smallest height of a view, so that it shows the surroundings, too."""

WIDTH_TO_HEIGHT = 4 / 3
"""Views are wider than high, since two kidneys lie side by side."""

AIR_HU = -1024
"""Where a view reaches beyond the CT, it shows air."""


class Files(NamedTuple):
    """NIfTI files of a case: CT, prediction and majority label; None where one is missing."""

    image: Path | None
    prediction: Path
    truth: Path | None


class View(NamedTuple):
    """The part of an axial slice that a figure shows.

    Attributes:
        image: CT in HU (y, x); None where it is missing.
        prediction, truth: label values (y, x).
        spacing_mm: (y, x).
        why_no_image: reason why the CT is missing; empty where it is not.
    """

    image: np.ndarray | None
    prediction: np.ndarray
    truth: np.ndarray
    spacing_mm: tuple[float, float]
    why_no_image: str = ""


def find_files(
    predictions: str | Path, dataset: str | Path, layout: str = AUTO
) -> dict[str, Files]:
    """Find the CT, prediction and majority label of the predicted cases, by case id.

    CT and label may be missing; the figures say so where they need them.

    Raises:
        InputError: A folder does not exist, or the data set holds no case.
    """
    predicted, found = find_predictions(predictions), {}
    for case in open_dataset(dataset, layout, complete=False).cases:
        _, files = find_named(predicted, case.case_id)
        if files:
            image = case.image if os.path.lexists(case.image) else None
            found[case.case_id] = Files(image, files[0], case.label if case.has_label else None)
    return found


def shown_labels(scheme: LabelScheme) -> list[int]:
    """List the label values in the order in which views look for them: lesions, then the others."""
    return [*scheme.lesions, *(v for v in scheme.foreground if v not in scheme.lesions)]


def best_slice(prediction: np.ndarray, truth: np.ndarray, scheme: LabelScheme) -> int:
    """Choose the slice of the truth with most of the first of `shown_labels` that is in it.

    With KiTS's labels that is the most tumor, or else most cyst, or else most kidney. Where the
    truth is empty, the prediction decides; where both are, it is the middle slice. Label maps are
    (z, y, x).
    """
    for label_map in (truth, prediction):
        for value in shown_labels(scheme):
            area = np.count_nonzero(label_map == value, axis=(1, 2))
            if area.any():
                return int(area.argmax())
    return len(truth) // 2


def worst_slice(
    prediction: np.ndarray, truth: np.ndarray, lesions: Sequence[Lesion], scheme: LabelScheme
) -> int:
    """Choose the slice that best shows why the Dice is low: of the tumor, with KiTS's labels.

    The largest failure among the lesions of the class in focus (the tumors) and the misclassified
    others decides: where it is missed, misclassified or a false positive, the slice that shows most
    of it is chosen. Otherwise it is the slice with most voxels that are of the class in one label
    map only, and without any `best_slice`. If no class is in focus (see `names.find_focus`), all
    lesions and all labels count.

    Args:
        prediction, truth: label maps (z, y, x).
        lesions: lesions of the case.
        scheme: the label scheme.
    """
    focus = find_focus(scheme)
    judged = [scheme.names[label] for label in (focus.labels if focus else scheme.lesions)]
    failed = [
        lesion
        for lesion in lesions
        if lesion.outcome == "misclassified"
        or (lesion.label in judged and lesion.outcome != "detected")
    ]
    worst = max(failed, key=lambda lesion: lesion.volume_cm3, default=None)
    if worst and worst.outcome in ("missed", "misclassified", "false positive"):
        # A file that was replaced since scoring may have fewer slices.
        return min(worst.slice, len(truth) - 1)
    seen, true = (
        union_mask(label, focus.labels) if focus else label for label in (prediction, truth)
    )
    wrong = np.count_nonzero(seen != true, axis=(1, 2))
    return int(wrong.argmax()) if wrong.any() else best_slice(prediction, truth, scheme)


def cut_view(
    files: Files | None, choose: Callable[[np.ndarray, np.ndarray], int], scheme: LabelScheme
) -> View | str:
    """Cut out of a case what a figure shows; voxels that the truth ignores are background.

    Args:
        files: files of the case; None where there are none.
        choose: picks the slice from prediction and truth (z, y, x).
        scheme: the label scheme.

    Returns:
        The view, or the reason why there is none, for the caption.
    """
    if files is None or files.truth is None:
        truth = "majority label" if scheme.is_kits else "true label"
        return f"there is no {truth if files else 'file'} of it"
    view = catch(_cut_view, files.image, files.prediction, files.truth, choose, scheme)
    return _explain(view, files.prediction) if isinstance(view, InputError) else view


def _cut_view(
    image_file: Path | None,
    prediction_file: Path,
    truth_file: Path,
    choose: Callable[[np.ndarray, np.ndarray], int],
    scheme: LabelScheme,
) -> View:
    prediction = read_label(prediction_file, range(len(scheme.names)))
    truth = read_label(truth_file, scheme.values)
    check_same_grid(prediction.grid, truth.grid)
    seen, true, _ = remove_ignored(prediction.array, truth.array, scheme)
    z = choose(seen, true)
    # All slices together, so that the view holds every kidney of the case.
    labeled = np.maximum(seen.max(axis=0), true.max(axis=0)) > 0
    window = _find_window(labeled, truth.spacing_mm[1:])
    image, why_no_image = None, "there is no CT"
    if image_file is not None:
        volume = catch(_read_image, image_file, truth.grid)
        if isinstance(volume, InputError):
            why_no_image = _explain(volume, image_file)
        else:
            image, why_no_image = _cut(volume.array[z], window, AIR_HU), ""
    labels = [_cut(label[z], window, 0) for label in (seen, true)]
    return View(image, labels[0], labels[1], truth.spacing_mm[1:], why_no_image)


def _read_image(path: Path, grid: Grid) -> Volume:
    volume = read_volume(path)
    check_same_grid(volume.grid, grid)
    return volume


def _explain(error: InputError, path: Path) -> str:
    """Give the reason for a caption; the traceback of an unforeseen error is logged."""
    if not isinstance(error, UnforeseenError):
        return str(error)
    _logger.warning("%s: %s\n%s", path, error, error.trace.rstrip())
    return f"{path}: {error}"


def _find_window(labeled: np.ndarray, spacing_mm: tuple[float, float]) -> list[tuple[int, int]]:
    """Find a rectangle around all labeled pixels: its first pixel and length along y and x."""
    corners = np.array([(0, 0), np.subtract(labeled.shape, 1)])
    pixels = np.argwhere(labeled) if labeled.any() else corners
    first, last = pixels.min(axis=0), pixels.max(axis=0)
    tall, wide = (last + 1 - first) * spacing_mm + 2 * MARGIN_MM
    height_mm = max(LEAST_HEIGHT_MM, tall, wide / WIDTH_TO_HEIGHT)
    counts = np.rint(np.array([height_mm, height_mm * WIDTH_TO_HEIGHT]) / spacing_mm).astype(int)
    spare = labeled.shape - counts
    # The rectangle lies within the image where that is large enough, otherwise around its middle.
    start = np.clip((first + last + 1 - counts) // 2, 0, np.maximum(spare, 0))
    start = np.where(spare < 0, spare // 2, start)
    return [(int(begin), int(count)) for begin, count in zip(start, counts, strict=True)]


def _cut(plane: np.ndarray, window: list[tuple[int, int]], outside: float) -> np.ndarray:
    """Cut a rectangle out of a plane (y, x), filled up with `outside` beyond the plane's edges."""
    (y, height), (x, width) = window
    padded = np.pad(plane, ((height, height), (width, width)), constant_values=outside)
    return padded[y + height : y + 2 * height, x + width : x + 2 * width].copy()
