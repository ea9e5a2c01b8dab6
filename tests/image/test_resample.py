"""Resampling: SciPy's numbers on a real CT and on noise, no shift, no lost label."""

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_volume
from kitsjax.image.resample import (
    resample_image,
    resample_nearest,
    resampled_shape,
    resampled_spacing,
)

TARGET_MM = 1.99
SPACING_MM = (3.0, 0.78, 0.85)
CT = Path(__file__).parents[2] / "../shared/data/ct_totalsegmentator/example_ct.nii.gz"


def _by_scipy(array, shape):
    """Resample with SciPy: half-pixel centers, edge voxels continued, in double precision."""
    source = [
        (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
        for n_in, n_out in zip(array.shape, shape, strict=True)
    ]
    points = np.meshgrid(*source, indexing="ij")
    return ndimage.map_coordinates(array.astype(np.float64), points, order=3, mode="nearest")


def _centers_mm(shape, spacing_mm):
    """Return the places (z, y, x) of voxel centers in mm; the volume's corner is the origin."""
    axes = [(np.arange(n) + 0.5) * edge for n, edge in zip(shape, spacing_mm, strict=True)]
    return np.meshgrid(*axes, indexing="ij", sparse=True)


def _there_and_back(label):
    small = resample_nearest(label, resampled_shape(label.shape, SPACING_MM, TARGET_MM))
    return resample_nearest(small, label.shape)


def _dice(a, b):
    return 2 * np.sum(a & b) / (a.sum() + b.sum())


@pytest.mark.parametrize(
    "shapes",
    [
        ((12, 20, 24), (18, 9, 10)),
        ((12, 20, 24), (12, 31, 24)),
        ((7, 150, 5), (19, 140, 3)),
        ((1, 2, 3), (5, 4, 1)),
        ((90, 3, 2), (200, 1, 2)),
    ],
)
def test_images_agree_with_scipy(shapes):
    before, after = shapes
    noise = np.random.default_rng(0).normal(0, 500, before).astype(np.float32)
    result = resample_image(noise, after)
    assert result.shape == after
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, _by_scipy(noise, after), atol=0.01)
    zoom = [m / n for n, m in zip(before, after, strict=True)]
    by_zoom = ndimage.zoom(noise, zoom, order=3, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(result, by_zoom, atol=0.01)


@pytest.mark.parametrize("target_mm", [1.99, 4.0])
def test_a_real_ct_agrees_with_scipy(target_mm):
    if not CT.exists():
        pytest.skip("the real CT is not here")
    image = read_volume(CT)
    shape = resampled_shape(image.shape, image.spacing_mm, target_mm)
    zoom = [m / n for n, m in zip(image.shape, shape, strict=True)]
    expected = ndimage.zoom(
        image.array.astype(np.float64), zoom, order=3, mode="nearest", grid_mode=True
    )
    assert np.abs(resample_image(image.array, shape) - expected).max() < 0.01


@pytest.mark.parametrize("after", [(9, 30, 12), (40, 8, 16), (10, 16, 130)])
def test_a_constant_stays_constant(after):
    result = resample_image(np.full((10, 16, 20), -1024, np.int16), after)
    np.testing.assert_allclose(result, -1024, atol=1e-3)


def test_a_ramp_is_reproduced_in_the_interior():
    before, after = (40, 48, 52), (61, 31, 52)
    z, y, x = _centers_mm(before, SPACING_MM)
    result = resample_image(3 * z - 2 * y + 0.5 * x, after)
    spacing_mm = resampled_spacing(before, SPACING_MM, after)
    z, y, x = _centers_mm(after, spacing_mm)
    inside = (slice(18, -18), slice(10, -10), slice(None))
    np.testing.assert_allclose(result[inside], (3 * z - 2 * y + 0.5 * x)[inside], atol=1e-3)


def test_an_axis_of_the_same_size_is_left_alone():
    noise = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(resample_image(noise, noise.shape), noise)
    each = [resample_image(plane[None], (1, 9, 6))[0] for plane in noise]
    np.testing.assert_allclose(resample_image(noise, (4, 9, 6)), each, atol=1e-6)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_axes_and_memory_order_do_not_matter(axes):
    noise = np.random.default_rng(0).normal(size=(11, 12, 13)).astype(np.float32)
    expected = resample_image(noise, (20, 9, 6))
    transposed = resample_image(noise.transpose(axes), tuple(np.take((20, 9, 6), axes)))
    np.testing.assert_allclose(transposed, expected.transpose(axes), atol=1e-5)
    flipped = resample_image(noise[::-1, :, ::-1], (20, 9, 6))
    np.testing.assert_allclose(flipped, expected[::-1, :, ::-1], atol=1e-5)


def test_memory_is_about_one_extra_copy():
    image = np.zeros((48, 96, 96), np.float32)
    tracemalloc.start()
    resample_image(image, (60, 48, 48))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * image.nbytes


def test_label_indices_are_exact():
    # (i + 0.5) * 6 / 4 = 0.75, 2.25, 3.75, 5.25, and (i + 0.5) * 2 / 5 = 0.2, 0.6, 1.0, 1.4, 1.8.
    line = np.arange(6, dtype=np.uint8).reshape(1, 6, 1)
    np.testing.assert_array_equal(resample_nearest(line, (1, 4, 1)).ravel(), [0, 2, 3, 5])
    pair = np.arange(2, dtype=np.uint8).reshape(2, 1, 1)
    expected = [0, 0, 1, 1, 1]
    np.testing.assert_array_equal(resample_nearest(pair, (5, 1, 1)).ravel(), expected)
    for n_in, n_out in itertools.product((3, 49, 98, 511), (1, 7, 98, 343)):
        line = np.arange(n_in).reshape(1, 1, n_in)
        taken = resample_nearest(line, (1, 1, n_out)).ravel()
        # Its center lies in the voxel taken: taken <= (i + 1/2) n_in / n_out < taken + 1.
        center = (2 * np.arange(n_out) + 1) * n_in
        assert (2 * n_out * taken <= center).all()
        assert (center < 2 * n_out * (taken + 1)).all()


def test_labels_keep_type_and_values():
    label = np.random.default_rng(0).choice(np.array([0, 3, 200], np.uint8), (9, 10, 11))
    result = resample_nearest(label, (14, 5, 30))
    assert result.shape == (14, 5, 30)
    assert result.dtype == np.uint8
    assert set(np.unique(result)) <= {0, 3, 200}
    finer = resample_nearest(label, (27, 30, 33))
    np.testing.assert_array_equal(resample_nearest(finer, label.shape), label)


def test_shape_rounds_and_never_vanishes():
    # 100 * 3 / 1.99 = 150.75, 512 * 0.78 / 1.99 = 200.68, 512 * 0.85 / 1.99 = 218.69
    assert resampled_shape((100, 512, 512), SPACING_MM, TARGET_MM) == (151, 201, 219)
    assert resampled_shape((1, 1, 4), (0.5, 0.1, 2.0), 4.0) == (1, 1, 2)
    assert resampled_shape((10, 10, 10), (1, 1, 1), (1.0, 2.0, 5.0)) == (10, 5, 2)


def test_resampled_grids_share_the_outer_edges():
    before, after = (30, 80, 90), (45, 31, 38)
    affine = kits_header(before, SPACING_MM).affine.copy()
    affine[:3, 3] = (11, -7, 130)
    resampled = _resampled_affine(affine, before, after)
    for corner in itertools.product((0, 1), repeat=3):
        old, new = (np.append(np.multiply(corner, shape) - 0.5, 1) for shape in (before, after))
        np.testing.assert_allclose(affine @ old, resampled @ new, atol=1e-9)
    lengths_mm = np.multiply(resampled_spacing(before, SPACING_MM, after), after)
    np.testing.assert_allclose(lengths_mm, np.multiply(SPACING_MM, before), rtol=1e-6)


def _resampled_affine(affine, before, after):
    """The affine (index to mm) of the resampled grid, by the spacing that kitsjax gives it."""
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    ratio = np.array(resampled_spacing(before, spacing_mm, after)) / spacing_mm
    index = np.diag([*ratio, 1.0])
    index[:3, 3] = ratio / 2 - 0.5
    return affine @ index


def _centroid_mm(weight, affine):
    return affine[:3, :3] @ ndimage.center_of_mass(weight) + affine[:3, 3]


def test_an_off_center_cube_stays_in_place():
    # Faces on borders of both grids (3.98 = 2 x 1.99, 0.995 = 1.99 / 2): nothing is rounded.
    cube = np.zeros((12, 60, 48), np.uint8)
    cube[3:7, 10:36, 22:40] = 2
    affine = kits_header(cube.shape, (3.98, 0.995, 0.995)).affine.copy()
    affine[:3, 3] = (-181.5, 33.25, 1207.0)
    shape = resampled_shape(cube.shape, (3.98, 0.995, 0.995), TARGET_MM)
    assert shape == (24, 30, 24)
    small = resample_nearest(cube, shape)
    new_affine = _resampled_affine(affine, cube.shape, shape)
    world = _centroid_mm(cube, affine)
    np.testing.assert_allclose(_centroid_mm(small, new_affine), world, atol=1e-9)
    np.testing.assert_allclose(
        _centroid_mm(resample_image(cube, shape), new_affine), world, atol=0.01
    )
    np.testing.assert_array_equal(resample_nearest(small, cube.shape), cube)


@pytest.mark.parametrize("seed", range(4))
def test_an_off_center_blob_stays_in_place(seed):
    rng = np.random.default_rng(seed)
    before = (40, 100, 110)
    blob = np.ones(before)
    for axis, center in zip(_centers_mm(before, SPACING_MM), rng.uniform(35, 43, 3), strict=True):
        blob = blob * np.exp(-((axis - center) ** 2) / (2 * 6.0**2))
    affine = kits_header(before, SPACING_MM).affine.copy()
    affine[:3, 3] = rng.uniform(-500, 500, 3)
    after = resampled_shape(before, SPACING_MM, TARGET_MM)
    result = resample_image(blob, after)
    np.testing.assert_allclose(
        _centroid_mm(result, _resampled_affine(affine, before, after)),
        _centroid_mm(blob, affine),
        atol=1e-3,
    )


@pytest.mark.parametrize("after", [(38, 24, 27), (12, 61, 200)])
def test_nearest_neighbors_prefer_no_direction(after):
    # A shift by a fraction of a voxel would show as a difference between a body and its mirror
    # image. Odd sizes: no output center lies on the border of two input voxels.
    body = np.random.default_rng(0).integers(0, 4, (25, 61, 63), np.uint8)
    for axis in range(3):
        np.testing.assert_array_equal(
            resample_nearest(np.flip(body, axis), after),
            np.flip(resample_nearest(body, after), axis),
        )


@pytest.mark.parametrize(
    ("name", "least_dice"), [("sphere", 0.97), ("cube", 0.955), ("plate", 0.86), ("half", 1.0)]
)
def test_labels_keep_their_overlap_there_and_back(name, least_dice):
    shape = (40, 128, 120)
    z, y, x = _centers_mm(shape, SPACING_MM)
    radius2 = (z - 61) ** 2 + (y - 47) ** 2 + (x - 53) ** 2
    label = {
        "sphere": radius2 < 25**2,
        "cube": (abs(z - 61) < 20) & (abs(y - 47) < 20) & (abs(x - 53) < 20),
        "plate": (abs(z - 61) < 20) & (abs(y - 47) < 20) & (abs(x - 53) < 1.7),
        "half": np.broadcast_to(x < 50, shape),
    }[name]
    back = _there_and_back(label)
    assert _dice(label, back) >= least_dice
    for value in (1, 2, 3):
        painted = _there_and_back(label.astype(np.uint8) * value)
        np.testing.assert_array_equal(painted, back * value)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_nearest_keeps_the_layout_in_memory(axes):
    """So that a mask which is written with another axis fastest need not be reordered."""
    label = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)
    expected = resample_nearest(label, (9, 4, 7))
    other = np.ascontiguousarray(label.transpose(axes)).transpose(np.argsort(axes))
    found = resample_nearest(other, (9, 4, 7))
    np.testing.assert_array_equal(found, expected)
    assert found.transpose(axes).flags.c_contiguous
