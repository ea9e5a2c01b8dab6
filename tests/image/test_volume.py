"""Volumes and their grids: which grids are the same, and messages that name the difference."""

import itertools
import math
import re

import jax.numpy as jnp
import numpy as np
import pytest
from nifti_files import (
    AFFINE,
    SHAPE,
    SPACING_MM,
    canonical_array,
    label_array,
    refusal,
    save,
    stored_as,
)
from scipy.spatial.transform import Rotation

from kitsjax.image.header import kits_affine
from kitsjax.image.read_nifti import read_grid, read_label, read_volume
from kitsjax.image.volume import Grid, check_same_grid, make_volume


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
    thick[2, 0] = -3.02
    path = save(tmp_path / "thick.nii", label_array(), thick)
    message = refusal(check_same_grid, read_grid(path), label)
    assert message.startswith(f"{path} and {tmp_path / 'label.nii'}: voxels lie up to 0.09 mm ")
    assert "(3.02, 0.75, 0.5) and (3, 0.75, 0.5) mm" in message

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
def test_corners_may_differ_by_a_tenth_of_an_edge(tmp_path, codes):
    """The smallest edge is 0.5 mm, so the limit is 0.05 mm at the corners, whatever moves them.

    The limit holds far from the origin and however the file is stored.
    """
    place = AFFINE.copy()
    place[:3, 3] = (-187.3, 41.77, 1203.1)
    label = read_label(save(tmp_path / "label.nii", label_array(), place))
    # A corner lies this many voxels from voxel 0 along each axis.
    reach = [max(0.5, n - 0.5) for n in SHAPE] + [1]
    for row, column in itertools.product(range(3), range(4)):
        for at_corner, same in ((0.048, True), (-0.048, True), (0.052, False), (-0.052, False)):
            affine = place.copy()
            affine[row, column] += at_corner / reach[column]
            path = save(tmp_path / "other.nii", *stored_as(codes, label_array(), affine))
            other = read_label(path)
            if same:
                check_same_grid(label.grid, other.grid)
                np.testing.assert_array_equal(other.array, label.array)
            else:
                what = refusal(check_same_grid, label.grid, other.grid).partition(": ")[2]
                assert "voxels lie up to 0.05" in what
                assert re.search(r"mm apart, more than 0.0(5|49\d) mm", what)
                values = re.search(r"[(\[](.*?)[)\]] and [(\[](.*?)[)\]]", what)
                assert values[1] != values[2]


def _grid(shape, affine):
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    return Grid(shape, tuple(float(edge) for edge in edges), affine)


def test_a_small_stretch_counts_at_the_far_corner():
    """0.0009 mm a voxel is 0.46 mm over 512; a mask 0.004 mm beside its CT is the same grid."""
    shape, affine = (100, 512, 512), kits_affine((3.0, 0.78, 0.78))
    stretched = kits_affine((3.0, 0.78, 0.7809))
    message = refusal(check_same_grid, _grid(shape, affine), _grid(shape, stretched))
    assert "voxels lie up to 0.46 mm apart, more than 0.078 mm" in message
    assert "spacings (3, 0.78, 0.78) and (3, 0.78, 0.7809) mm" in message
    moved = affine.copy()
    moved[:3, 3] += 0.004
    check_same_grid(_grid(shape, affine), _grid(shape, moved))
    # The edge of an axis of one voxel counts as well.
    thick = _grid((1, 512, 512), kits_affine((3.2, 0.78, 0.78)))
    refusal(check_same_grid, _grid((1, 512, 512), affine), thick)


@pytest.mark.parametrize("degrees", [18.5, -5.0])
def test_a_tilted_voxel_has_the_volume_of_det(degrees):
    affine = kits_affine(SPACING_MM)
    affine[2, 1] = np.tan(np.radians(degrees)) * SPACING_MM[1]
    tilted = _grid(SHAPE, affine)
    assert tilted.tilt_deg == pytest.approx(abs(degrees))
    assert tilted.voxel_mm3 == pytest.approx(3.0 * 0.75 * 0.5)
    assert math.prod(tilted.spacing_mm) > 1.003 * tilted.voxel_mm3


def test_a_straight_voxel_is_the_product_of_edges():
    """To the bit, also of an oblique grid whose affine is rounded to float32."""
    rotated = Rotation.from_euler("zyx", (12, -7, 21), degrees=True).as_matrix()
    affine = kits_affine((3.0, 0.7, 0.7))
    affine[:3, :3] = (rotated @ affine[:3, :3]).astype(np.float32)
    grid = _grid(SHAPE, affine)
    assert grid.tilt_deg < 1e-3
    assert grid.voxel_mm3 == math.prod(grid.spacing_mm)


@pytest.mark.parametrize(
    ("array", "spacing", "message"),
    [
        ([[[1]]], (1, 1, 1), "voxels come as an array .* not as list"),
        (None, (1, 1, 1), "not as NoneType"),
        (np.zeros(SHAPE, complex), (1, 1, 1), "real numbers, not complex128"),
        (np.zeros(SHAPE, object), (1, 1, 1), "real numbers, not object"),
        (np.zeros(SHAPE, "u1,u1,u1"), (1, 1, 1), "real numbers, not .*u1"),
        (np.zeros(SHAPE, jnp.float8_e4m3fn), (1, 1, 1), "real numbers, not float8_e4m3fn"),
        (np.zeros(SHAPE), None, "three positive lengths .* not None"),
        (np.zeros(SHAPE), 3.0, "three positive lengths .* not 3.0"),
        (np.zeros(SHAPE), (1, "a", 1), "three positive lengths"),
    ],
)
def test_wrong_types_are_explained(array, spacing, message):
    with pytest.raises(TypeError, match=message):
        make_volume(array, spacing)
