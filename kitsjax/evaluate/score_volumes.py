"""Score one label map against another: the function for notebooks and scripts."""

import logging

import numpy as np

from kitsjax.evaluate.ignored import remove_ignored
from kitsjax.evaluate.scoring import ClassScore, measure_label, score_case
from kitsjax.image.volume import (
    LARGEST_EDGE_MM,
    LARGEST_TILT_DEG,
    Grid,
    Volume,
    check_same_grid,
    check_spacing,
)
from kitsjax.labels import KITS, LabelScheme
from kitsjax.types import Spacing

_logger = logging.getLogger(__name__)


def score(
    prediction: np.ndarray | Volume,
    truth: np.ndarray | Volume,
    spacing_mm: Spacing | None = None,
    scheme: LabelScheme = KITS,
) -> dict[str, ClassScore]:
    """Score a predicted label map against the true one in the evaluation classes of a scheme.

    KiTS21's classes are "kidney_and_mass" (kidney, tumor and cyst), "mass" (tumor and cyst) and
    "tumor". Nothing is resampled: the label maps are compared voxel by voxel. Voxels whose true
    value is `scheme.ignore` count in no score, nor do surfaces that touch them.

    Args:
        prediction: Predicted label map (z, y, x), an integer array or a `Volume`, with at least
            one voxel. Values are those of the scheme; with KiTS21's 0 (background), 1 (kidney), 2
            (tumor) and 3 (cyst). Any of them may be absent, and a map of background only is a
            prediction without any finding.
        truth: True label map (z, y, x), likewise; on the same grid as the prediction. It may also
            hold the scheme's ignore value.
        spacing_mm: Voxel edges (z, y, x) in mm. None takes the spacing of a volume; two arrays
            have none, so it must be given.
        scheme: The label scheme.

    Returns:
        The score of each class by its name, in the order above, also of classes that are absent.
        For volumes whose axes are not perpendicular (a tilted gantry) the volumes are right, but
        surface Dice and distance are nan, and a note says so.

    Raises:
        TypeError: A label map is neither array nor volume, or the spacing is not of numbers.
        ValueError: A label map is not three-dimensional, has no voxel, is not of integers or holds
            other values; the shapes differ; the spacing is missing or not three positive lengths
            of at most 1 m.
        InputError: Two volumes lie on different grids.
    """
    for given in (prediction, truth):
        if not isinstance(given, Volume) and not hasattr(given, "dtype"):
            raise TypeError(
                f"score takes label maps as arrays or volumes, not {type(given).__name__}; read "
                "files with read_label(path)"
            )
    if isinstance(prediction, Volume) and isinstance(truth, Volume):
        check_same_grid(prediction.grid, truth.grid)
    predicted, true = (v.array if isinstance(v, Volume) else v for v in (prediction, truth))
    for volume in (prediction, truth):
        if spacing_mm is None and isinstance(volume, Volume):
            spacing_mm = volume.spacing_mm
    if predicted.shape != true.shape:
        raise ValueError(
            f"label maps have shapes {predicted.shape} and {true.shape}; give two of one shape"
        )
    if spacing_mm is None:
        raise ValueError("label maps have no spacing; give the spacing_mm of arrays as (z, y, x)")
    for label, values in ((predicted, len(scheme.names)), (true, len(scheme.values))):
        _check_label(label, values)
    check_spacing(spacing_mm)
    z, y, x = map(float, spacing_mm)  # A list or an array of numbers serves, too.
    spacing_mm = z, y, x
    if max(spacing_mm) > LARGEST_EDGE_MM:
        raise ValueError(f"a spacing of {spacing_mm} mm is above {LARGEST_EDGE_MM:g} mm; give mm")
    predicted, true, ignored = remove_ignored(predicted, true, scheme)
    found, expected = (measure_label(v, spacing_mm, scheme, ignored) for v in (predicted, true))
    scores = score_case(found, expected, spacing_mm, scheme)
    grids = [v.grid for v in (prediction, truth) if isinstance(v, Volume)]
    tilted = [grid for grid in grids if grid.tilt_deg > LARGEST_TILT_DEG]
    return _leave_out_surfaces(scores, tilted[0]) if tilted else scores


def _leave_out_surfaces(scores: dict[str, ClassScore], grid: Grid) -> dict[str, ClassScore]:
    """Correct the volumes of a tilted grid, and replace what needs perpendicular axes by nan."""
    _logger.warning(
        "%s: its axes are %.3g degrees off perpendicular (a tilted gantry), so surface Dice and "
        "HD95 are nan; score it on a straightened grid to have them", grid.name, grid.tilt_deg
    )  # fmt: skip
    share = grid.voxel_mm3 / float(np.prod(grid.spacing_mm))
    return {
        name: ClassScore(
            one.dice, np.nan, np.nan, one.prediction_cm3 * share, one.truth_cm3 * share
        )
        for name, one in scores.items()
    }


def _check_label(label: np.ndarray, values: int) -> None:
    """Refuse an array that is no label map of so many values."""
    is_integer_volume = label.ndim == 3 and label.size and label.dtype.kind in "iu"
    if not is_integer_volume or label.min() < 0 or label.max() >= values:
        raise ValueError(
            f"a label map is (z, y, x) integers from 0 to {values - 1}, not {label.dtype} "
            f"{label.shape} of other values"
        )
