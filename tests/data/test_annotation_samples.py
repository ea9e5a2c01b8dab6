"""The official annotation samples, name for name, and their files."""

import nibabel as nib
import numpy as np
from made_instances import instance, masks_of, of_counts
from nifti_files import SHAPE, save

from kitsjax.data.annotation_samples import draw_samples, write_samples
from kitsjax.data.instances import read_instances
from kitsjax.data.paint_instances import paint_sample
from kitsjax.image.read_nifti import read_label


def names(samples):
    return [name for name, _ in samples]


def test_real_samples_are_the_official_ones(real_case):
    _, instances, official = real_case
    assert names(draw_samples(21, instances)) == official


def test_orders_of_draws_and_of_names():
    """Draws go kidney, tumor, cyst; names go kidney, cyst, tumor.

    The names are worked out from the draws; the cyst goes round its own four annotations. A group
    has two samples, since the tumor has two annotations. NumPy keeps the numbers of a seeded
    RandomState for good.
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


def test_each_instance_goes_round_its_annotations():
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


def test_names_keep_empty_kinds_and_file_numbers():
    (first, *_) = draw_samples(1, of_counts(("kidney", 1, 1), ("kidney", 2, 1)))
    assert first.name == "group_0/kidney_i1a1_i2a1_cyst_tumor.nii.gz"
    (first, *_) = draw_samples(1, of_counts(("kidney", 1, 1), ("tumor", 3, 1)))
    assert first.name == "group_0/kidney_i1a1_cyst_tumor_i3a1.nii.gz"
    gap = [instance("cyst", 4, np.ones((2, 1, 1, 1)), annotations=(2, 5))]
    expected = {0: "kidney_cyst_i4a2_tumor.nii.gz", 1: "kidney_cyst_i4a5_tumor.nii.gz"}
    for name, (index,) in draw_samples(1, gap):
        assert name.partition("/")[2] == expected[index]


def test_no_instances_give_no_samples():
    assert draw_samples(3, []) == []


def test_a_phantom_has_fifteen_samples(phantom):
    case = phantom / "case_00000"
    grid = read_label(case / "aggregated_MAJ_seg.nii.gz").grid
    assert len(draw_samples(0, read_instances(case / "segmentations", grid))) == 15


def test_samples_are_written_as_kits21_does(tmp_path):
    reference = read_label(save(tmp_path / "label.nii.gz", np.zeros(SHAPE, np.uint8), qform=1))
    folder = tmp_path / "samples" / "case_00007"
    instances = [
        instance("kidney", 1, masks_of(np.s_[1:4], np.s_[1:3])),
        instance("tumor", 1, masks_of(np.s_[2, 3:5], np.s_[2, 3:6], np.s_[2, 2:5])),
    ]
    samples = draw_samples(7, instances)
    (folder / "group_0").mkdir(parents=True)
    (folder / "group_0" / "stale.nii.gz").touch()
    write_samples(folder, instances, samples, reference.grid)
    written = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert sorted(written) == sorted(names(samples))
    for name, choice in samples:
        file = nib.load(folder / name)
        assert file.affine.tobytes() == reference.header.affine.tobytes()
        assert file.header["qform_code"] == 1
        np.testing.assert_array_equal(file.dataobj, paint_sample(instances, choice, SHAPE))
