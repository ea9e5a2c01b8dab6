"""Volumes and their grids: which grids are the same, and messages that name the difference."""

import itertools
import re

import numpy as np
import pytest
from nifti_files import (
    AFFINE,
    canonical_array,
    label_array,
    refusal,
    save,
    stored_as,
)

from kitsjax.image.read_nifti import read_grid, read_label, read_volume
from kitsjax.image.volume import check_same_grid


def test_grids_that_differ_are_refused(tmp_path):
    image = read_volume(save(tmp_path / "image.nii.gz", canonical_array()))
    nearly = AFFINE + np.eye(4)[:, [1, 2, 3, 0]] * 1e-5
    stored, affine = stored_as("RAS", label_array(), nearly)
    check_same_grid(image.grid, read_grid(save(tmp_path / "a.nii", stored, affine)))

    short = read_grid(save(tmp_path / "short.nii", label_array()[1:]))
    message = refusal(check_same_grid, image.grid, short)
    assert "(5, 6, 7) and (4, 6, 7)" in message
    assert "image.nii.gz" in message
    assert "short.nii" in message

    moved = AFFINE.copy()
    moved[0, 3] = 2.5
    shifted = read_grid(save(tmp_path / "moved.nii", label_array(), moved))
    message = refusal(check_same_grid, image.grid, shifted)
    assert "0, 0, -0.5, 0;" in message
    assert "0, 0, -0.5, 2.5;" in message
    assert "stored as" not in message


def test_refusals_show_what_differs(tmp_path):
    label = read_label(save(tmp_path / "label.nii", label_array())).grid
    thick = AFFINE.copy()
    thick[2, 0] = -3.002
    path = save(tmp_path / "thick.nii", label_array(), thick)
    message = refusal(check_same_grid, read_grid(path), label)
    assert message.startswith(f"{path} and {tmp_path / 'label.nii'}: spacings ")
    assert "(3.002, 0.75, 0.5) and (3, 0.75, 0.5) mm" in message

    # The axes are reversed, and the affine does not say so: in canonical orientation the shape
    # or the affine is another.
    path = save(tmp_path / "reversed.nii", label_array().T, np.diag([0.5, 0.75, 3, 1]))
    reversed_axes = read_grid(path)
    message = refusal(check_same_grid, reversed_axes, label)
    assert "affines" in message
    assert "(stored as RAS and IPL)" in message
    path = save(tmp_path / "plain.nii", label_array(), np.eye(4))
    message = refusal(check_same_grid, read_grid(path), label)
    assert "shapes (7, 6, 5) and (5, 6, 7) (z, y, x) differ (stored as RAS and IPL)" in message

    # A flip in the affine alone moves the voxels.
    flipped = AFFINE @ np.diag([-1, 1, 1, 1])
    path = save(tmp_path / "flipped.nii", label_array(), flipped)
    message = refusal(check_same_grid, read_grid(path), label)
    assert "affines" in message
    assert "(stored as SPL and IPL)" in message


@pytest.mark.parametrize("codes", ["IPL", "SAR", "RAS", "LPI"])
def test_affines_may_differ_by_a_thousandth(tmp_path, codes):
    """The values that a refusal shows differ, even far from the origin and by this little.

    The tolerance holds for every entry, however the file is stored.
    """
    place = AFFINE.copy()
    place[:3, 3] = (-187.3, 41.77, 1203.1)
    label = read_label(save(tmp_path / "label.nii", label_array(), place))
    for row, column in itertools.product(range(3), range(4)):
        for by, same in ((8e-4, True), (-8e-4, True), (1.3e-3, False), (-1.3e-3, False)):
            affine = place.copy()
            affine[row, column] += by
            path = save(tmp_path / "other.nii", *stored_as(codes, label_array(), affine))
            other = read_label(path)
            if same:
                check_same_grid(label.grid, other.grid)
                np.testing.assert_array_equal(other.array, label.array)
            else:
                what = refusal(check_same_grid, label.grid, other.grid).partition(": ")[2]
                values = re.search(r"[(\[](.*?)[)\]] and [(\[](.*?)[)\]]", what)
                assert values[1] != values[2]
