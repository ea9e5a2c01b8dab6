"""Label maps painted from instances: the order of painting, and what a majority is."""

import numpy as np
import pytest
from made_instances import instance
from nifti_files import SHAPE

from kitsjax.data.instances import read_instances
from kitsjax.data.paint_instances import majority_label, merge_annotations, paint_sample
from kitsjax.image.read_nifti import read_label


def test_real_majority_is_the_official_one(real_case):
    truth, instances, _ = real_case
    np.testing.assert_array_equal(majority_label(instances, truth.shape), truth.array)


def test_no_instances_give_background():
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


def test_painting_order_and_votes_by_instance():
    """Tumor covers cyst covers kidney, and votes stay within an instance.

    A line of voxels. Each instance has two annotations, the second empty but for kidney 1's. So
    only kidney 1 has a majority, although two annotators hold voxel 2 to be mass.
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


def test_phantom_annotations_merge_to_its_labels(phantom):
    case = phantom / "case_00000"
    reference = read_label(case / "aggregated_MAJ_seg.nii.gz")
    instances = read_instances(case / "segmentations", reference.grid)
    for rule, label in merge_annotations(instances, reference.shape).items():
        expected = read_label(case / f"aggregated_{rule}_seg.nii.gz").array
        np.testing.assert_array_equal(label, expected)
