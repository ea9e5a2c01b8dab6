"""Compare the wide phantom's statistics with those of real CTs: `docs/synthetic.md` has the table.

    python -m benchmarks.synthetic_statistics --real FOLDER --cases 60

FOLDER holds any of: CTs as NIfTI (`<name>.nii.gz` in any subfolder, masks of kidneys beside them
named with "kidney"), and KiTS slices as PNG (`images/` with HU 0 to 255, `masks/` with kidneys blue
and tumors red). Real and synthetic voxels go through the same function; nothing is written.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib.image
import numpy as np
from scipy import ndimage

from benchmarks.real_cts import find_real_cts
from kitsjax.command import exit_with, run_command
from kitsjax.input_file import check_is_folder
from kitsjax.phantom.wide.case import make_wide_case

SLICE_HU = (0, 255)
"""KiTS slices hold this range."""

SHARES = ((-4000, -850), (-850, -200), (-200, -30), (-30, 20), (20, 90), (90, 200), (200, 3100))
"""Ranges of HU whose shares of a volume's voxels are compared."""


class Statistics(NamedTuple):
    """What is measured of an image; NaN where it shows no such tissue.

    Attributes:
        kidney, tumor: mean of the voxels one in from the label's edge.
        kidney_spread, tumor_spread: standard deviation of those voxels.
        fat: most frequent HU between -150 and -50.
        soft: most frequent HU between 20 and 150: muscle and liver.
        noise: standard deviation of 3x3 voxels of a slice, 25th percentile within soft tissue.
        shares: the voxels' shares of `SHARES`, of those above -850 HU but the first.
    """

    kidney: float
    kidney_spread: float
    tumor: float
    tumor_spread: float
    fat: float
    soft: float
    noise: float
    shares: tuple[float, ...]


def measure(image: np.ndarray, label: np.ndarray) -> Statistics:
    """Measure an image (z, y, x) in HU, with its labels: 1 kidney, 2 tumor."""
    kidney, tumor = (_measure_inside(image, label == value) for value in (1, 2))
    mean = ndimage.uniform_filter(image.astype(np.float32), (1, 3, 3))
    square = ndimage.uniform_filter(image.astype(np.float32) ** 2, (1, 3, 3))
    tissue = (mean > 20) & (mean < 150)
    deviation = np.sqrt(np.maximum(square - mean**2, 0) * 9 / 8)[tissue]
    # Edges only add to the deviation, so a low percentile is that of the tissue's inside.
    noise = np.percentile(deviation, 25) if deviation.size else np.nan
    body = max(int((image > -850).sum()), 1)
    counts = [((image >= low) & (image < high)).sum() for low, high in SHARES]
    shares = (counts[0] / image.size, *(count / body for count in counts[1:]))
    fat, soft = _mode(image, -150, -50), _mode(image, 20, 150)
    return Statistics(*kidney, *tumor, fat, soft, float(noise), tuple(map(float, shares)))


def _measure_inside(image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Return mean and deviation of the voxels one in from a mask's edge; NaN if they are few."""
    values = image[ndimage.binary_erosion(mask, np.ones((1, 3, 3), bool))]
    return (float(values.mean()), float(values.std())) if values.size >= 50 else (np.nan, np.nan)


def _mode(image: np.ndarray, low: int, high: int) -> float:
    """Return the most frequent HU of a range, after smoothing; NaN if few voxels are within."""
    counts = np.histogram(image, np.arange(low, high + 1))[0].astype(float)
    if counts.sum() < 0.01 * image.size:
        return np.nan
    return low + 0.5 + float(np.argmax(ndimage.gaussian_filter1d(counts, 4)))


def read_slices(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield KiTS slices (1, y, x) in HU and their labels."""
    for path in sorted((folder / "images").glob("*.png")):
        image, mask = (matplotlib.image.imread(folder / f / path.name) for f in ("images", "masks"))
        gray = image if image.ndim == 2 else image[..., 0]
        blue, red = mask[..., 2] > 0.5, mask[..., 0] > 0.5
        yield 255.0 * gray[None], np.where(red, 2, np.where(blue, 1, 0))[None]


def _row(name: str, found: list[Statistics]) -> str:
    """Format a row: the mean over images, and the range from the 5th to the 95th percentile."""
    cells = []
    for values in zip(*(s[:7] for s in found), strict=True):
        known = [v for v in values if not np.isnan(v)]
        if not known:
            cells.append("-")
            continue
        low, high = np.percentile(known, (5, 95))
        span = f" ({low:.0f} to {high:.0f})" if len(known) > 1 else ""
        cells.append(f"{np.mean(known):.0f}{span}")
    shares = [f"{100 * s:.0f}" for s in np.mean([s.shares for s in found], 0)]
    return " | ".join([f"| {name}", *cells, " / ".join(shares) + " |"])


def main() -> int:
    """Print the table, real images and the phantom's of each phase."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", metavar="FOLDER", help="real CTs and slices; default: none")
    parser.add_argument("--cases", type=int, default=60, help="cases of the wide phantom")
    parser.add_argument("--matrix", type=int, default=192, help="voxels across their slices")
    args = parser.parse_args()
    real = Path(args.real) if args.real else None
    if real is not None:
        check_is_folder(real, "no such folder", "give a folder of CTs and slices")
    spans = " / ".join(f"{low} to {high}" for low, high in SHARES)
    print("| images | kidney | its spread | tumor | its spread | fat | soft tissue | noise", end="")
    print(f" | % of {spans} HU |\n|---|---|---|---|---|---|---|---|---|")
    for folder in sorted({p.parent for p in real.rglob("images")} if real else ()):
        print(_row("real slices, HU 0 to 255", [measure(*pair) for pair in read_slices(folder)]))
    for ct in find_real_cts(real) if real else ():
        image = ct.image.array
        label = np.zeros(image.shape, int) if ct.kidneys is None else ct.kidneys.astype(int)
        print(_row(ct.path.name, [measure(image, label)]))
    by_phase: dict[str, list[Statistics]] = {}
    clipped = []
    for n in range(args.cases):
        case = make_wide_case(0, n, args.matrix)
        if not case.instances:
            continue
        image, label = case.image.astype(np.float32), case.labels["MAJ"]
        by_phase.setdefault(f"phantom, {case.phase}", []).append(measure(image, label))
        if case.phase in ("arterial", "portal"):
            clipped.append(measure(np.clip(image, *SLICE_HU), label))
    if clipped:
        print(_row("phantom, arterial and portal, HU 0 to 255", clipped))
    for name in sorted(by_phase):
        print(_row(name, by_phase[name]))
    return 0


if __name__ == "__main__":
    exit_with(run_command(main))
