"""A small KiTS21 folder of drawn cases and predictions of them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from kitsjax.data.kits import find_cases
from kitsjax.evaluate.evaluation import evaluate
from kitsjax.image.header import kits_header
from kitsjax.image.write_nifti import write_label
from kitsjax.labels import CYST, KIDNEY, TUMOR

SPACING_MM = (3.0, 0.8, 0.8)
SHAPE = (6, 16, 20)
KINDS = {"kidney": KIDNEY, "tumor": TUMOR, "cyst": CYST}


class Folders(NamedTuple):
    data: Path
    predictions: Path


def write(path, label, spacing_mm=SPACING_MM):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label(path, label.astype(np.uint8), kits_header(label.shape, spacing_mm))
    return path


def draw(seed):
    """Draw {kind: mask} of a kidney with a tumor and a cyst in it, somewhere."""
    z, y, x = np.random.default_rng(seed).integers(0, 3, 3)
    masks = {name: np.zeros(SHAPE, bool) for name in KINDS}
    masks["kidney"][z : z + 3, y : y + 10, x : x + 12] = True
    masks["tumor"][z : z + 2, y : y + 3, x : x + 3] = True
    masks["cyst"][z : z + 2, y + 6 : y + 9, x + 6 : x + 9] = True
    return masks


def merge(masks):
    label = np.zeros(SHAPE, np.uint8)
    for name in ("kidney", "cyst", "tumor"):
        label[masks[name]] = KINDS[name]
    return label


def write_case(root, number, annotated=True, name="aggregated_MAJ_seg.nii.gz"):
    """Write a case whose second of three annotators is right; the others err a voxel each way."""
    folder = root / f"case_{number:05d}"
    masks = draw(number)
    write(folder / name, merge(masks))
    if annotated:
        for kind, mask in masks.items():
            for annotation, shift in enumerate((-1, 0, 1), 1):
                file = f"segmentations/{kind}_instance-1_annotation-{annotation}.nii.gz"
                write(folder / file, np.roll(mask, shift, axis=2))
    return folder


def write_folders(root):
    """Write three cases, predicted perfectly, shifted, and without the tumor."""
    predicted = [merge(draw(0)), np.roll(merge(draw(1)), 1, axis=2), merge(draw(2))]
    predicted[2][predicted[2] == TUMOR] = KIDNEY
    folders = Folders(root / "data", root / "predictions")
    for i, label in enumerate(predicted):
        write_case(folders.data, i)
        write(folders.predictions / f"case_{i:05d}.nii.gz", label)
    return folders


def run(folders, **options):
    return evaluate(
        find_cases(folders.data, images=False), folders.predictions, **{"workers": 1} | options
    )
