"""What the way back to the CT's grid costs the scores: `python -m benchmarks.way_back`.

The majority labels of phantom cases are resampled to the network's spacing and brought back, by
nearest neighbor and by interpolated probabilities (which are 1 and 0), and scored against
themselves. No network that sees this spacing could label its own voxels better.
"""

import argparse
from collections.abc import Callable

import numpy as np

from kitsjax.evaluate.score_volumes import score
from kitsjax.image.resample import resample_nearest, resampled_shape
from kitsjax.infer.native_grid import resample_probabilities
from kitsjax.labels import KITS
from kitsjax.phantom.case import make_case
from kitsjax.types import Shape


def _interpolate(label: np.ndarray, shape: Shape) -> np.ndarray:
    by_class = np.stack([label == value for value in range(len(KITS.names))]).astype(np.float32)
    like = np.empty(shape, np.uint8)
    return resample_probabilities([by_class], label.shape, like, "probability")


WAYS: dict[str, Callable[[np.ndarray, Shape], np.ndarray]] = {
    "label": resample_nearest,
    "probability": _interpolate,
}
"""The choices of `predict.resample`."""


def main() -> None:
    """Print the mean Dice and surface Dice of each spacing, way back and class."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=6, help="phantom cases")
    parser.add_argument("--matrix", type=int, default=192, help="voxels across a slice")
    parser.add_argument("--seed", type=int, default=0, help="seed of the phantom")
    parser.add_argument("--spacing", type=float, nargs="+", default=[4.0, 2.0], help="mm")
    args = parser.parse_args()
    scores: dict[tuple[float, str], list[list[tuple[float, float]]]] = {
        (spacing, way): [] for spacing in args.spacing for way in WAYS
    }
    for number in range(args.cases):
        case = make_case(args.seed, number, args.matrix)
        truth = case.labels["MAJ"]
        for (spacing_mm, way), found in scores.items():
            small = resample_nearest(
                truth, resampled_shape(truth.shape, case.spacing_mm, spacing_mm)
            )
            restored = WAYS[way](small, truth.shape)
            by_class = score(restored, truth, case.spacing_mm)
            found.append([(by_class[c].dice, by_class[c].surface_dice) for c in KITS.titles])
    print("| spacing, way back |", " | ".join(KITS.titles.values()), "|  (Dice, surface Dice)")
    for (spacing_mm, way), found in scores.items():
        # A class that a case lacks has no score.
        cells = [f"{dice:.3f}, {surface:.3f}" for dice, surface in np.nanmean(found, axis=0)]
        print(f"| {spacing_mm:g} mm, {way} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
