"""What Figures 3 and 6 show of a case: its files, the slice, and the part of it that matters."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kitsjax.data.kits import find_cases
from kitsjax.errors import InputError
from kitsjax.evaluate.evaluation import find_predictions
from kitsjax.evaluate.results import Lesion
from kitsjax.image.read_nifti import read_label, read_volume
from kitsjax.image.volume import check_same_grid
from kitsjax.labels import CYST, KIDNEY, TUMOR

MARGIN_MM, LEAST_HEIGHT_MM, WIDTH_TO_HEIGHT = 12.0, 150.0, 4 / 3
"""Of a view: around all that is labeled; its least height, so that the surroundings show; and its
shape, since two kidneys stand side by side."""


class Files(NamedTuple):
    """The NIfTI files of a case: CT, prediction, majority label; None where there is none."""

    image: Path | None
    prediction: Path
    truth: Path | None


class View(NamedTuple):
    """The part of an axial slice that is shown.

    Attributes:
        image: CT in HU (y, x); None where there is none.
        prediction, truth: labels (y, x).
        spacing_mm: (y, x).
        without: why there is no CT, "" where there is one.
    """

    image: np.ndarray | None
    prediction: np.ndarray
    truth: np.ndarray
    spacing_mm: tuple[float, float]
    without: str = ""


def find_files(predictions: str | Path, dataset: str | Path) -> dict[str, Files]:
    """{case id: its CT, prediction and majority label} of the cases predicted.

    CT and label may be missing: the figures say so where they need them.

    Raises:
        InputError: no such folder, or no case in the data set.
    """
    predicted = find_predictions(predictions)
    return {
        case.case_id: Files(
            case.image if case.image.is_file() else None, predicted[case.case_id][0], case.label
        )
        for case in find_cases(dataset, images=False)
        if case.case_id in predicted
    }


def best_slice(prediction: np.ndarray, truth: np.ndarray) -> int:
    """The slice with most tumor, else cyst, else kidney, of the truth, else of the prediction.

    Label maps are (z, y, x). The middle one if nothing is labeled.
    """
    for label_map in (truth, prediction):
        for value in (TUMOR, CYST, KIDNEY):
            area = np.count_nonzero(label_map == value, axis=(1, 2))
            if area.any():
                return int(area.argmax())
    return len(truth) // 2


def worst_slice(prediction: np.ndarray, truth: np.ndarray, lesions: Sequence[Lesion]) -> int:
    """The slice that shows best why the tumor Dice is low.

    The largest failed lesion decides, of the tumors and the misclassified cysts: where it was missed,
    misclassified or falsely found, the slice that shows most of it. Otherwise the slice with most voxels
    that are tumor in one label map only; without those, `best_slice`.
    """
    failed = [
        lesion
        for lesion in lesions
        if lesion.outcome == "misclassified"
        or (lesion.label == "tumor" and lesion.outcome != "detected")
    ]
    worst = max(failed, key=lambda lesion: lesion.volume_cm3, default=None)
    if worst and worst.outcome in ("missed", "misclassified", "false positive"):
        # A file exchanged since scoring may have fewer slices.
        return min(worst.slice, len(truth) - 1)
    wrong = np.count_nonzero((prediction == TUMOR) != (truth == TUMOR), axis=(1, 2))
    return int(wrong.argmax()) if wrong.any() else best_slice(prediction, truth)


def cut_view(files: Files | None, choose: Callable[[np.ndarray, np.ndarray], int]) -> View | str:
    """What to show of a case, at the slice that `choose` picks from prediction and truth."""
    if files is None or files.truth is None:
        return f"there is no {'majority label' if files else 'file'} of it"
    try:
        prediction, truth = read_label(files.prediction), read_label(files.truth)
        check_same_grid(prediction.grid, truth.grid)
    except InputError as error:
        return str(error)
    z = choose(prediction.array, truth.array)
    seen = np.maximum(prediction.array.max(axis=0), truth.array.max(axis=0)) > 0
    window = _find_window(seen, truth.spacing_mm[1:])
    image, without = None, "there is no CT"
    if files.image is not None:
        try:
            volume = read_volume(files.image)
            check_same_grid(volume.grid, truth.grid)
            image, without = _cut(volume.array[z], window, -1024), ""
        except InputError as error:
            without = str(error)
    labels = [_cut(volume.array[z], window, 0) for volume in (prediction, truth)]
    return View(image, labels[0], labels[1], truth.spacing_mm[1:], without)


def _find_window(seen: np.ndarray, spacing_mm: tuple[float, float]) -> list[tuple[int, int]]:
    """First pixel and number of pixels, in y and x, of a rectangle around all that is seen."""
    found = np.argwhere(seen) if seen.any() else np.array([(0, 0), np.subtract(seen.shape, 1)])
    first, last = found.min(axis=0), found.max(axis=0)
    tall, wide = (last + 1 - first) * spacing_mm + 2 * MARGIN_MM
    height_mm = max(LEAST_HEIGHT_MM, tall, wide / WIDTH_TO_HEIGHT)
    counts = np.rint(np.array([height_mm, height_mm * WIDTH_TO_HEIGHT]) / spacing_mm).astype(int)
    spare = seen.shape - counts
    # Within the image if it is large enough, otherwise around its middle.
    start = np.clip((first + last + 1 - counts) // 2, 0, np.maximum(spare, 0))
    start = np.where(spare < 0, spare // 2, start)
    return [(int(begin), int(count)) for begin, count in zip(start, counts, strict=True)]


def _cut(plane: np.ndarray, window: list[tuple[int, int]], outside: float) -> np.ndarray:
    (y, height), (x, width) = window
    padded = np.pad(plane, ((height, height), (width, width)), constant_values=outside)
    return padded[y + height : y + 2 * height, x + width : x + 2 * width].copy()
