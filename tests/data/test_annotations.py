"""Individual annotations: the official samples name for name, majority, and the files."""

import json
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_files import AFFINE, SHAPE, SPACING_MM, refusal, save, stored_as

from kitsjax.data.annotations import (
    Instance,
    count_instances,
    draw_samples,
    majority_label,
    merge_annotations,
    paint_sample,
    read_instances,
    write_samples,
)
from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_label
from kitsjax.image.volume import Grid
from kitsjax.phantom.dataset import make_phantom

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
GRID = Grid(SHAPE, SPACING_MM, AFFINE, kits_header(SHAPE, SPACING_MM))
EVERYWHERE = tuple(slice(0, n) for n in SHAPE)


def instance(kind, number, masks, region=EVERYWHERE, annotations=()):
    return Instance(kind, number, region, np.asarray(masks, bool), annotations)


def of_counts(*counts):
    """Instances by (kind, number, how many annotations)."""
    return [instance(kind, number, np.ones((n, 1, 1, 1))) for kind, number, n in counts]


def masks_of(*boxes):
    """Masks of the volume that are True in a box each; None for an empty one."""
    masks = np.zeros((len(boxes), *SHAPE), bool)
    for mask, box in zip(masks, boxes, strict=True):
        if box is not None:
            mask[box] = True
    return masks


def names(samples):
    return [name for name, _ in samples]


@pytest.fixture(scope="module")
def real():
    case = DATA / "kits21" / "case_00021"
    if not case.is_dir():
        pytest.skip("the real KiTS21 case is not at hand")
    truth = read_label(case / "aggregated_MAJ_seg.nii.gz")
    return truth, read_instances(case / "segmentations", truth)


def test_samples_of_a_real_case_are_the_official_ones(real):
    _, instances = real
    golden = json.loads((DATA / "golden_case_00021.json").read_text())
    assert names(draw_samples(21, instances)) == golden["sample_files"]


def test_majority_of_a_real_case_is_the_official_one(real):
    truth, instances = real
    np.testing.assert_array_equal(majority_label(instances, truth.shape), truth.array)


def test_draws_go_kidney_tumor_cyst_and_names_kidney_cyst_tumor():
    """Names worked out from the draws; the cyst goes round its own four annotations.

    A group has two samples, since the tumor has two annotations. NumPy keeps the numbers of a
    seeded RandomState for good.
    """
    counts = {"kidney": 3, "tumor": 2, "cyst": 4}
    rng = np.random.RandomState(0)
    draws = [[rng.randint(0, count) for count in counts.values()] for _ in range(5)]
    assert draws == [[0, 1, 1], [0, 1, 3], [1, 1, 1], [2, 0, 3], [2, 0, 0]]
    instances = of_counts(*((kind, 1, count) for kind, count in counts.items()))
    assert names(draw_samples(0, instances)) == [
        "group_0/kidney_i1a1_cyst_i1a2_tumor_i1a2.nii.gz",
        "group_0/kidney_i1a2_cyst_i1a3_tumor_i1a1.nii.gz",
        "group_1/kidney_i1a1_cyst_i1a4_tumor_i1a2.nii.gz",
        "group_1/kidney_i1a2_cyst_i1a1_tumor_i1a1.nii.gz",
        "group_2/kidney_i1a2_cyst_i1a2_tumor_i1a2.nii.gz",
        "group_2/kidney_i1a3_cyst_i1a3_tumor_i1a1.nii.gz",
        "group_3/kidney_i1a3_cyst_i1a4_tumor_i1a1.nii.gz",
        "group_3/kidney_i1a1_cyst_i1a1_tumor_i1a2.nii.gz",
        "group_4/kidney_i1a3_cyst_i1a1_tumor_i1a1.nii.gz",
        "group_4/kidney_i1a1_cyst_i1a2_tumor_i1a2.nii.gz",
    ]


def test_each_instance_goes_round_its_own_annotations():
    counts = (3, 5, 4, 3)
    kinds = ("kidney", "kidney", "tumor", "cyst")
    instances = of_counts(*zip(kinds, (1, 2, 1, 1), counts, strict=True))
    samples = draw_samples(17, instances)
    assert len(samples) == 15
    for group in range(5):
        members = samples[3 * group : 3 * group + 3]
        assert all(name.startswith(f"group_{group}/") for name, _ in members)
        first, second, third = (choice for _, choice in members)
        assert second == tuple((a + 1) % n for a, n in zip(first, counts, strict=True))
        assert third == tuple((a + 2) % n for a, n in zip(first, counts, strict=True))
    assert samples == draw_samples(17, instances)
    assert samples != draw_samples(18, instances)


def test_names_keep_regions_without_instances_and_the_files_numbers():
    (first, *_) = draw_samples(1, of_counts(("kidney", 1, 1), ("kidney", 2, 1)))
    assert first.name == "group_0/kidney_i1a1_i2a1_cyst_tumor.nii.gz"
    (first, *_) = draw_samples(1, of_counts(("kidney", 1, 1), ("tumor", 3, 1)))
    assert first.name == "group_0/kidney_i1a1_cyst_tumor_i3a1.nii.gz"
    gap = [instance("cyst", 4, np.ones((2, 1, 1, 1)), annotations=(2, 5))]
    expected = {0: "kidney_cyst_i4a2_tumor.nii.gz", 1: "kidney_cyst_i4a5_tumor.nii.gz"}
    for name, (index,) in draw_samples(1, gap):
        assert name.partition("/")[2] == expected[index]


def test_no_instances_give_no_samples_and_background():
    assert draw_samples(3, []) == []
    for label in merge_annotations([], SHAPE).values():
        assert label.shape == SHAPE
        assert label.dtype == np.uint8
        assert not label.any()


@pytest.mark.parametrize(
    ("annotators", "majority"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4)]
)
def test_majority_is_more_than_half(annotators, majority):
    """Voxel x of a line is drawn by x annotators."""
    masks = np.arange(7) > np.arange(annotators)[:, None]
    line = [instance("tumor", 1, masks[:, None, None])]
    shape = (1, 1, 7)
    merged = merge_annotations(line, shape)
    for rule, least in (("MAJ", majority), ("AND", annotators), ("OR", 1)):
        np.testing.assert_array_equal(merged[rule][0, 0], 2 * (np.arange(7) >= least))
    np.testing.assert_array_equal(majority_label(line, shape), merged["MAJ"])


def test_tumor_is_painted_over_cyst_over_kidney_and_votes_stay_within_an_instance():
    """A line of voxels. Each instance has two annotations, the second empty but for kidney 1's.

    So only kidney 1 has a majority, although two annotators hold voxel 2 to be mass.
    """
    row = np.zeros((4, 2, 1, 1, 6), bool)
    row[0, :, 0, 0, :5] = True
    row[1, 0, 0, 0, 4:] = row[2, 0, 0, 0, 1:3] = row[3, 0, 0, 0, 2:4] = True
    kinds = [("kidney", 1), ("kidney", 2), ("tumor", 1), ("cyst", 1)]
    instances = [instance(*kind, masks) for kind, masks in zip(kinds, row, strict=True)]
    shape = (1, 1, 6)
    assert paint_sample(instances, (0, 0, 0, 0), shape).ravel().tolist() == [1, 2, 2, 3, 1, 1]
    assert paint_sample(instances, (1, 1, 0, 1), shape).ravel().tolist() == [1, 2, 2, 1, 1, 0]
    merged = merge_annotations(instances, shape)
    assert merged["OR"].ravel().tolist() == [1, 2, 2, 3, 1, 1]
    assert merged["MAJ"].ravel().tolist() == [1, 1, 1, 1, 1, 0]
    # The order of the instances must not matter.
    np.testing.assert_array_equal(merge_annotations(instances[::-1], shape)["OR"], merged["OR"])


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


def test_a_flipped_file_of_the_same_world_is_the_same_mask(tmp_path):
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


def test_annotations_of_other_grids_and_values_are_refused(tmp_path):
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


def test_six_annotations_take_no_more_memory_than_one(tmp_path):
    mask = np.zeros((24, 96, 96))
    mask[10:14, 40:60, 40:60] = 1
    for number in range(1, 7):
        path = save(tmp_path / f"tumor_instance-1_annotation-{number}.nii.gz", mask)
    one = peak_memory(read_label, path)
    assert peak_memory(read_instances, tmp_path, Grid(mask.shape, SPACING_MM, AFFINE)) < 1.1 * one


def test_samples_are_written_in_the_official_layout(tmp_path):
    like = read_label(save(tmp_path / "label.nii.gz", np.zeros(SHAPE, np.uint8), qform=1))
    folder = tmp_path / "samples" / "case_00007"
    instances = [
        instance("kidney", 1, masks_of(np.s_[1:4], np.s_[1:3])),
        instance("tumor", 1, masks_of(np.s_[2, 3:5], np.s_[2, 3:6], np.s_[2, 2:5])),
    ]
    samples = draw_samples(7, instances)
    (folder / "group_0").mkdir(parents=True)
    (folder / "group_0" / "stale.nii.gz").touch()
    write_samples(folder, instances, samples, like)
    written = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert sorted(written) == sorted(names(samples))
    for name, choice in samples:
        file = nib.load(folder / name)
        assert file.affine.tobytes() == like.header.affine.tobytes()
        assert file.header["qform_code"] == 1
        np.testing.assert_array_equal(file.dataobj, paint_sample(instances, choice, SHAPE))


def test_a_phantoms_annotations_merge_to_its_labels(tmp_path):
    make_phantom(tmp_path, 1, 64, seed=2, workers=1, progress=False)
    case = tmp_path / "case_00000"
    like = read_label(case / "aggregated_MAJ_seg.nii.gz")
    instances = read_instances(case / "segmentations", like)
    for rule, label in merge_annotations(instances, like.shape).items():
        expected = read_label(case / f"aggregated_{rule}_seg.nii.gz").array
        np.testing.assert_array_equal(label, expected)
    assert len(draw_samples(0, instances)) == 15
