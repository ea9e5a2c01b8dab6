"""Resampling: SciPy's numbers on a real CT and on noise, no shift, no lost label."""

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from kitsjax.image import resample
from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_volume

TARGET_MM = 1.99
SPACING_MM = (3.0, 0.78, 0.85)
CT = (
    Path(__file__).parents[2]
    / ".."
    / "shared"
    / "data"
    / "ct_totalsegmentator"
    / "example_ct.nii.gz"
)


def _by_scipy(array, shape):
    """The same grid by SciPy: half-pixel centers, edge voxels continued, in double precision."""
    source = [
        (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
        for n_in, n_out in zip(array.shape, shape, strict=True)
    ]
    points = np.meshgrid(*source, indexing="ij")
    return ndimage.map_coordinates(array.astype(np.float64), points, order=3, mode="nearest")


def _centers_mm(shape, spacing_mm):
    """World coordinates in mm (array order) of voxel centers; the volume's corner is the origin."""
    axes = [(np.arange(n) + 0.5) * edge for n, edge in zip(shape, spacing_mm, strict=True)]
    return np.meshgrid(*axes, indexing="ij", sparse=True)


def _there_and_back(label, spacing_mm=SPACING_MM):
    small = resample.resample_label(
        label, resample.resampled_shape(label.shape, spacing_mm, TARGET_MM)
    )
    return small, resample.resample_label(small, label.shape)


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
    result = resample.resample_image(noise, after)
    assert result.shape == after
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, _by_scipy(noise, after), atol=0.01)
    zoom = [m / n for n, m in zip(before, after, strict=True)]
    by_zoom = ndimage.zoom(noise, zoom, order=3, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(result, by_zoom, atol=0.01)


@pytest.mark.parametrize("target_mm", [1.99, 4.0])
def test_a_real_ct_agrees_with_scipy_to_a_hundredth_of_a_hu(target_mm):
    if not CT.exists():
        pytest.skip("the real CT is not here")
    image = read_volume(CT)
    shape = resample.resampled_shape(image.shape, image.spacing_mm, target_mm)
    zoom = [m / n for n, m in zip(image.shape, shape, strict=True)]
    expected = ndimage.zoom(
        image.array.astype(np.float64), zoom, order=3, mode="nearest", grid_mode=True
    )
    assert np.abs(resample.resample_image(image.array, shape) - expected).max() < 0.01


@pytest.mark.parametrize("after", [(9, 30, 12), (40, 8, 16), (10, 16, 130)])
def test_a_constant_stays_constant(after):
    result = resample.resample_image(np.full((10, 16, 20), -1024, np.int16), after)
    np.testing.assert_allclose(result, -1024, atol=1e-3)


def test_a_ramp_is_reproduced_in_the_interior():
    before, after = (40, 48, 52), (61, 31, 52)
    z, y, x = _centers_mm(before, SPACING_MM)
    result = resample.resample_image(3 * z - 2 * y + 0.5 * x, after)
    spacing_mm = resample.resampled_spacing(before, SPACING_MM, after)
    z, y, x = _centers_mm(after, spacing_mm)
    inside = (slice(18, -18), slice(10, -10), slice(None))
    np.testing.assert_allclose(result[inside], (3 * z - 2 * y + 0.5 * x)[inside], atol=1e-3)


def test_an_axis_of_the_same_size_is_left_alone():
    noise = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(resample.resample_image(noise, noise.shape), noise)
    each = [resample.resample_image(plane[None], (1, 9, 6))[0] for plane in noise]
    np.testing.assert_allclose(resample.resample_image(noise, (4, 9, 6)), each, atol=1e-6)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_axes_and_memory_order_do_not_matter(axes):
    noise = np.random.default_rng(0).normal(size=(11, 12, 13)).astype(np.float32)
    expected = resample.resample_image(noise, (20, 9, 6))
    turned = resample.resample_image(noise.transpose(axes), tuple(np.take((20, 9, 6), axes)))
    np.testing.assert_allclose(turned, expected.transpose(axes), atol=1e-5)
    mirrored = resample.resample_image(noise[::-1, :, ::-1], (20, 9, 6))
    np.testing.assert_allclose(mirrored, expected[::-1, :, ::-1], atol=1e-5)


def test_memory_is_about_one_extra_copy():
    image = np.zeros((64, 128, 128), np.float32)
    tracemalloc.start()
    resample.resample_image(image, (80, 64, 64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * image.nbytes


def test_label_indices_are_those_of_exact_arithmetic():
    # (i + 0.5) * 6 / 4 = 0.75, 2.25, 3.75, 5.25, and (i + 0.5) * 2 / 5 = 0.2, 0.6, 1.0, 1.4, 1.8.
    line = np.arange(6, dtype=np.uint8).reshape(1, 6, 1)
    np.testing.assert_array_equal(resample.resample_label(line, (1, 4, 1)).ravel(), [0, 2, 3, 5])
    pair = np.arange(2, dtype=np.uint8).reshape(2, 1, 1)
    expected = [0, 0, 1, 1, 1]
    np.testing.assert_array_equal(resample.resample_label(pair, (5, 1, 1)).ravel(), expected)
    for n_in, n_out in itertools.product((3, 49, 98, 511), (1, 7, 98, 343)):
        line = np.arange(n_in).reshape(1, 1, n_in)
        taken = resample.resample_label(line, (1, 1, n_out)).ravel()
        # Its center lies in the voxel taken: taken <= (i + 1/2) n_in / n_out < taken + 1.
        center = (2 * np.arange(n_out) + 1) * n_in
        assert (2 * n_out * taken <= center).all()
        assert (center < 2 * n_out * (taken + 1)).all()


def test_labels_keep_type_and_values():
    label = np.random.default_rng(0).choice(np.array([0, 3, 200], np.uint8), (9, 10, 11))
    result = resample.resample_label(label, (14, 5, 30))
    assert result.shape == (14, 5, 30)
    assert result.dtype == np.uint8
    assert set(np.unique(result)) <= {0, 3, 200}
    finer = resample.resample_label(label, (27, 30, 33))
    np.testing.assert_array_equal(resample.resample_label(finer, label.shape), label)


def test_shape_rounds_and_never_vanishes():
    # 100 * 3 / 1.99 = 150.75, 512 * 0.78 / 1.99 = 200.68, 512 * 0.85 / 1.99 = 218.69
    assert resample.resampled_shape((100, 512, 512), SPACING_MM, TARGET_MM) == (151, 201, 219)
    assert resample.resampled_shape((1, 1, 4), (0.5, 0.1, 2.0), 4.0) == (1, 1, 2)
    assert resample.resampled_shape((10, 10, 10), (1, 1, 1), (1.0, 2.0, 5.0)) == (10, 5, 2)


def test_resampled_grids_share_the_outer_edges():
    before, after = (30, 80, 90), (45, 31, 38)
    affine = kits_header(before, SPACING_MM).affine.copy()
    affine[:3, 3] = (11, -7, 130)
    resampled = resample.resampled_affine(affine, before, after)
    for corner in itertools.product((0, 1), repeat=3):
        ends = [
            np.append(np.array(corner) * shape - 0.5, 1) for shape in map(np.array, (before, after))
        ]
        np.testing.assert_allclose(affine @ ends[0], resampled @ ends[1], atol=1e-9)
    lengths = np.linalg.norm(resampled[:3, :3], axis=0)
    np.testing.assert_allclose(
        lengths, resample.resampled_spacing(before, SPACING_MM, after), rtol=1e-6
    )


def _centroid_mm(weight, affine):
    return affine[:3, :3] @ ndimage.center_of_mass(weight) + affine[:3, 3]


def test_an_off_center_cube_stays_where_it_is_in_mm():
    # Faces on borders of both grids (3.98 = 2 x 1.99, 0.995 = 1.99 / 2): nothing is rounded.
    cube = np.zeros((12, 60, 48), np.uint8)
    cube[3:7, 10:36, 22:40] = 2
    affine = kits_header(cube.shape, (3.98, 0.995, 0.995)).affine.copy()
    affine[:3, 3] = (-181.5, 33.25, 1207.0)
    shape = resample.resampled_shape(cube.shape, (3.98, 0.995, 0.995), TARGET_MM)
    assert shape == (24, 30, 24)
    small = resample.resample_label(cube, shape)
    new_affine = resample.resampled_affine(affine, cube.shape, shape)
    world = _centroid_mm(cube, affine)
    np.testing.assert_allclose(_centroid_mm(small, new_affine), world, atol=1e-9)
    np.testing.assert_allclose(
        _centroid_mm(resample.resample_image(cube, shape), new_affine), world, atol=0.01
    )
    np.testing.assert_array_equal(resample.resample_label(small, cube.shape), cube)


@pytest.mark.parametrize("seed", range(4))
def test_an_off_center_blob_stays_where_it_is_in_mm(seed):
    rng = np.random.default_rng(seed)
    before = (40, 100, 110)
    blob = np.ones(before)
    for axis, center in zip(_centers_mm(before, SPACING_MM), rng.uniform(35, 43, 3), strict=True):
        blob = blob * np.exp(-((axis - center) ** 2) / (2 * 6.0**2))
    affine = kits_header(before, SPACING_MM).affine.copy()
    affine[:3, 3] = rng.uniform(-500, 500, 3)
    after = resample.resampled_shape(before, SPACING_MM, TARGET_MM)
    result = resample.resample_image(blob, after)
    np.testing.assert_allclose(
        _centroid_mm(result, resample.resampled_affine(affine, before, after)),
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
            resample.resample_label(np.flip(body, axis), after),
            np.flip(resample.resample_label(body, after), axis),
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
    _, back = _there_and_back(label)
    assert _dice(label, back) >= least_dice
    for value in (1, 2, 3):
        _, painted = _there_and_back(label.astype(np.uint8) * value)
        np.testing.assert_array_equal(painted, back * value)
