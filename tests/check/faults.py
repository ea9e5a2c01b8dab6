"""Every fault that `bin/check.py` finds, by name: how a case of the phantom gets it."""

import shutil

import nibabel as nib
import numpy as np

IMAGE, LABEL, ANNOTATIONS = "imaging.nii.gz", "aggregated_MAJ_seg.nii.gz", "segmentations"


def edit(path, change, affine=None):
    """Change the voxels of a file, as stored along (z, y, x), and its affine if one is given."""
    image = nib.load(path)
    array = change(np.asarray(image.dataobj).copy())
    nib.save(nib.Nifti1Image(array, image.affine if affine is None else affine), path)


def set_voxel(array, index, value):
    array[index] = value
    return array


def cut_file(folder):
    path = folder / IMAGE
    path.write_bytes(path.read_bytes()[:5000])


def stretch_label(folder):
    affine = nib.load(folder / LABEL).affine @ np.diag([1, 1, 1.1, 1])
    edit(folder / LABEL, lambda label: label, affine)


def add_nan(folder):
    edit(folder / IMAGE, lambda hu: set_voxel(hu.astype(np.float32), (0, 0, 0), np.nan))


def pad(hu):
    """Fill up what lies outside of a circle."""
    _, y, x = np.indices(hu.shape)
    return np.where((y - 32) ** 2 + (x - 32) ** 2 > 31**2, -2048, hu).astype(np.int16)


def cut_scan(folder):
    shutil.rmtree(folder / ANNOTATIONS)
    for name in (IMAGE, LABEL):
        edit(folder / name, lambda array: array[array.shape[0] // 3 : array.shape[0] // 2])


def append_phase(folder):
    """Append the scan again with more contrast and the patient moved a little."""

    def repeat(hu):
        enhanced = np.where((hu > 20) & (hu < 300), hu + 40, hu)
        return np.concatenate([hu, np.roll(enhanced, 1, axis=2)]).astype(np.int16)

    shutil.rmtree(folder / ANNOTATIONS)
    edit(folder / IMAGE, repeat)
    edit(folder / LABEL, lambda label: np.concatenate([label, np.zeros_like(label)]))


def move_annotation(folder):
    path = folder / ANNOTATIONS / "tumor_instance-1_annotation-2.nii.gz"
    edit(path, lambda mask: np.roll(mask, 30, axis=1))


def forget_orientation(folder):
    image = nib.load(folder / IMAGE)
    image.header.set_sform(image.affine, code=0)
    image.header.set_qform(image.affine, code=0)
    # The axes of a file without codes point to the patient's left, posterior and superior.
    plain = nib.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    nib.save(plain, folder / IMAGE)
    shutil.rmtree(folder / ANNOTATIONS)
    label = np.asarray(nib.load(folder / LABEL).dataobj)
    plain = nib.Nifti1Image(label, None, image.header)
    plain.set_data_dtype(np.uint8)
    nib.save(plain, folder / LABEL)


def move_voxels(folder, change):
    """Change the affines of all files of a case alike."""
    for path in folder.rglob("*.nii.gz"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), change @ image.affine), path)


def tilt_gantry(folder):
    tilt = np.eye(4)
    tilt[2, 1] = np.tan(np.radians(18.5))
    move_voxels(folder, tilt)


def remove_tumors(folder):
    for path in (folder / ANNOTATIONS).glob("tumor_*"):
        path.unlink()


def copy_image(folder):
    shutil.copy(folder.with_name("case_00002") / IMAGE, folder / IMAGE)


FAULTS = {
    "unreadable case": lambda folder: shutil.copytree(folder, folder.with_name("CASE_00001")),
    "unreadable file": cut_file,
    "missing file": lambda folder: (folder / IMAGE).unlink(),
    "grid mismatch": stretch_label,
    "foreign labels": lambda folder: edit(
        folder / LABEL, lambda label: set_voxel(label, (1, 2, 3), 7)
    ),
    "NaN": add_nan,
    # Meters, without a unit.
    "wrong spacing": lambda folder: move_voxels(folder, np.diag([1e-3, 1e-3, 1e-3, 1])),
    "tilted axes": tilt_gantry,
    "empty label": lambda folder: edit(folder / LABEL, np.zeros_like),
    "incomplete annotations": remove_tumors,
    "unsigned HU": lambda folder: edit(folder / IMAGE, lambda hu: (hu + 1024).astype(np.uint16)),
    "second phase": append_phase,
    "shifted HU": lambda folder: edit(folder / IMAGE, lambda hu: hu + np.int16(200)),
    "clipped HU": lambda folder: edit(folder / IMAGE, lambda hu: np.clip(hu, -160, 240)),
    "padded HU": lambda folder: edit(folder / IMAGE, pad),
    "small field of view": cut_scan,
    "annotators disagree": move_annotation,
    "note on a file": forget_orientation,
}
"""Functions of a case's folder. A duplicated image needs two cases and is tested apart."""
