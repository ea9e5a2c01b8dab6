"""Small cases in KiTS21's layout, for the tests of preprocessing."""

import nibabel as nib
import numpy as np

from kitsjax.settings import PreprocessSettings

SETTINGS = PreprocessSettings(spacing_mm=3.0)
AFFINE = np.array([[0, 0, -1.5, 0], [0, -1.5, 0, 0], [-4.0, 0, 0, 0], [0, 0, 0, 1]])


def write_case(root, number, shape=(10, 24, 24), edit=None, annotations=0):
    """Write noise with a box of kidney and tumor, after `edit`, and annotations of both."""
    rng = np.random.default_rng(number)
    image = rng.normal(40, 100, shape).astype(np.float32)
    label = np.zeros(shape, np.uint8)
    label[2:6, 4:12, 4:12], label[4:6, 6:10, 6:10] = 1, 2
    if edit:
        image, label = edit(image, label)
    folder = root / f"case_{number:05d}"
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(image, AFFINE), folder / "imaging.nii.gz")
    nib.save(nib.Nifti1Image(label, AFFINE), folder / "aggregated_MAJ_seg.nii.gz")
    for annotation in range(1, annotations + 1):
        (folder / "segmentations").mkdir(exist_ok=True)
        for kind, mask in (("kidney", label > 0), ("tumor", label == 2)):
            name = f"segmentations/{kind}_instance-1_annotation-{annotation}.nii.gz"
            nib.save(nib.Nifti1Image(mask.astype(np.uint8), AFFINE), folder / name)
    return folder


def full_disk(*args):
    raise OSError(28, "No space left on device")


def made_at(folder):
    """Return when each file of each preprocessed case was made."""
    return {p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
