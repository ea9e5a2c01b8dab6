"""Real CTs whose kidneys are known: found in a folder, for the benchmarks of the wide phantom."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kitsjax.image.read_nifti import read_volume
from kitsjax.image.volume import Volume

NONE_IN_VIEW = "without_kidneys"
"""A folder whose name has this holds CTs that show no kidney."""


class RealCt(NamedTuple):
    """A real CT.

    Attributes:
        path: its file.
        image: HU.
        kidneys: whether a voxel (z, y, x) is of a kidney; None if nobody says.
    """

    path: Path
    image: Volume
    kidneys: np.ndarray | None


def find_real_cts(folder: str | Path) -> Iterator[RealCt]:
    """Yield the CTs of a folder and its subfolders, sorted by path.

    A mask beside a CT, of the same shape and named with "kidney", says where its kidneys are:
    everything above 0. Files named with "seg", and images that hold no air, are no CTs.
    """
    for path in sorted(Path(folder).rglob("*.nii.gz")):
        masks = sorted(path.parent.glob("*kidney*.nii.gz"))
        if path in masks or "seg" in path.name:
            continue
        image = read_volume(path)
        if image.array.min() > -500:
            continue  # a label map
        kidneys = None
        if NONE_IN_VIEW in path.parent.name:
            kidneys = np.zeros(image.shape, bool)
        for mask in masks:
            found = read_volume(mask).array
            kidneys = found > 0 if found.shape == image.shape else kidneys
        yield RealCt(path, image, kidneys)
