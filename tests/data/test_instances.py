"""Reading individual annotations: names, order, crops, and files that are refused."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from made_instances import EVERYWHERE, masks_of
from nifti_files import AFFINE, SHAPE, SPACING_MM, refusal, save, stored_as

from kitsjax.data.annotation_samples import draw_samples
from kitsjax.data.instances import annotator_numbers, count_instances, read_instances
from kitsjax.data.paint_instances import majority_label, paint_sample
from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_label
from kitsjax.image.volume import Grid

GRID = Grid(SHAPE, SPACING_MM, AFFINE, kits_header(SHAPE, SPACING_MM))


def write_masks(folder, kind, number, masks, annotations=None):
    folder.mkdir(exist_ok=True)
    for annotation, mask in zip(annotations or range(1, len(masks) + 1), masks, strict=True):
        name = f"{kind}_instance-{number}_annotation-{annotation}.nii.gz"
        save(folder / name, mask.astype(np.float64))


def test_instances_are_read_in_order_and_cropped(tmp_path):
    folder = tmp_path / "segmentations"
    tumor = masks_of(np.s_[1:3, 2:4, 5], np.s_[2:4, 1:3, 3:5], None)
    write_masks(folder, "cyst", 10, masks_of(np.s_[4, 5, 6]))
    write_masks(folder, "cyst", 2, masks_of(None, None))
    write_masks(folder, "tumor", 3, tumor, (2, 11, 4))
    write_masks(folder, "kidney", 1, masks_of(np.s_[:]))
    (folder / "notes.txt").touch()
    (folder / "._cyst_instance-2_annotation-1.nii.gz").touch()
    found = read_instances(folder, GRID)
    assert [(i.kind, i.number, i.annotations) for i in found] == [
        ("kidney", 1, (1,)), ("tumor", 3, (2, 4, 11)), ("cyst", 2, (1, 2)), ("cyst", 10, (1,)),
    ]  # fmt: skip
    assert count_instances(folder) == {"kidney": 1, "tumor": 1, "cyst": 2}
    whole, mass, empty, corner = found
    assert whole.region == EVERYWHERE
    assert whole.masks.all()
    assert mass.region == (slice(1, 4), slice(1, 4), slice(3, 6))
    assert mass.masks.dtype == bool
    np.testing.assert_array_equal(mass.masks, tumor[[0, 2, 1]][:, 1:4, 1:4, 3:6])
    assert empty.masks.shape == (2, 0, 0, 0)
    assert corner.region == (slice(4, 5), slice(5, 6), slice(6, 7))
    # An empty annotation is one like any other.
    without = dict(zip((2, 4, 11), tumor[[0, 2, 1]], strict=True))
    for index, annotation in enumerate(mass.annotations):
        painted = paint_sample(found, (0, index, 0, 0), SHAPE)
        np.testing.assert_array_equal(painted == 2, without[annotation])
    assert (majority_label(found, SHAPE)[4, 5, 6], len(draw_samples(0, found))) == (3, 5)


def test_flipped_file_is_the_same_mask(tmp_path):
    """A file stored along other axes is the same mask if its voxels lie at the same places."""
    masks = masks_of(np.s_[1:3, 2:4, 5], np.s_[1:3, 2:5, 4:6])
    write_masks(tmp_path, "tumor", 1, masks[:1])
    stored, affine = stored_as("RAS", masks[1].astype(np.uint8))
    save(tmp_path / "tumor_instance-1_annotation-2.nii.gz", stored, affine)
    (tumor,) = read_instances(tmp_path, GRID)
    np.testing.assert_array_equal(tumor.masks, masks[:, 1:3, 2:5, 4:6])


@pytest.mark.parametrize(
    "name",
    [
        "artery_instance-1_annotation-1.nii.gz",
        "kidney_instance-0_annotation-1.nii.gz",
        "kidney_instance-01_annotation-1.nii.gz",
        "kidney_instance-1.nii.gz",
        "imaging.nii.gz",
    ],
)
def test_files_of_other_names_are_refused(tmp_path, name):
    (tmp_path / name).touch()
    assert f"{name}: not named like" in refusal(read_instances, tmp_path, GRID)
    assert f"{name}: not named like" in refusal(count_instances, tmp_path)


def test_all_files_of_other_names_are_told(tmp_path):
    for number in range(7):
        (tmp_path / f"artery-{number}.nii.gz").touch()
    told = ", ".join(f"artery-{number}.nii.gz" for number in range(5))
    for read in (partial(read_instances, grid=GRID), count_instances):
        assert f"{tmp_path}/{told} and 2 more: not named like" in refusal(read, tmp_path)


def test_annotation_names_are_read_without_case(tmp_path, caplog):
    mask = np.zeros(SHAPE)
    mask[1, 2, 3] = 1
    save(tmp_path / "a.nii.gz", mask)
    (tmp_path / "a.nii.gz").rename(tmp_path / "KIDNEY_INSTANCE-1_ANNOTATION-2.NII.GZ")
    save(tmp_path / "kidney_instance-1_annotation-1.nii", mask)
    (tmp_path / "notes.txt").touch()
    (kidney,) = read_instances(tmp_path, GRID)
    assert kidney.annotation_numbers == (1, 2)
    assert annotator_numbers(tmp_path) == {1, 2}
    assert kidney.masks.sum() == 2
    (record,) = caplog.records
    assert "passed over 1 file: notes.txt" in record.getMessage()
    save(tmp_path / "kidney_instance-1_annotation-1.nii.gz", mask)
    assert "are of one annotation; keep one" in refusal(read_instances, tmp_path, GRID)


def test_other_grids_and_values_are_refused(tmp_path):
    path = tmp_path / "kidney_instance-1_annotation-1.nii.gz"
    assert "no such folder" in refusal(read_instances, tmp_path / "none", GRID)
    save(path, np.ones((4, 6, 7)))
    assert "(4, 6, 7) and (5, 6, 7)" in refusal(read_instances, tmp_path, GRID)
    save(path, np.full(SHAPE, 2, np.uint8))
    assert "label values 2 are not among 0, 1" in refusal(read_instances, tmp_path, GRID)
    path.write_bytes(path.read_bytes()[:-20])
    assert path.name in refusal(read_instances, tmp_path, GRID)


def peak_memory(read, *arguments):
    tracemalloc.start()
    read(*arguments)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_six_annotations_take_the_memory_of_one(tmp_path):
    mask = np.zeros((24, 96, 96))
    mask[10:14, 40:60, 40:60] = 1
    for number in range(1, 7):
        path = save(tmp_path / f"tumor_instance-1_annotation-{number}.nii.gz", mask)
    one = peak_memory(read_label, path)
    assert peak_memory(read_instances, tmp_path, Grid(mask.shape, SPACING_MM, AFFINE)) < 1.1 * one
