"""Masks in blocks and their surfaces: by hand, and the areas of surface-distance."""

import tracemalloc
import warnings

import numpy as np
import pytest

from kitsjax.evaluate import surfaces
from kitsjax.evaluate.surfaces import SLAB, Mask, cut_blocks, find_surface

with warnings.catch_warnings():
    # The package imports deprecated names of SciPy.
    warnings.simplefilter("ignore")
    from surface_distance import lookup_tables

UNIT = (1.0, 1.0, 1.0)


def cut(array, origin=(0, 0, 0)):
    return Mask(tuple(cut_blocks(array, origin)))


def box(shape, *corners):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(low, high) for low, high in corners)] = True
    return mask


def paste(mask, shape):
    """Return the volume that a mask was cut out of."""
    array = np.zeros(shape, bool)
    for block, origin in mask.blocks:
        array[tuple(slice(o, o + n) for o, n in zip(origin, block.shape, strict=True))] = block
    return array


# Blocks


@pytest.mark.parametrize("planes", [1, SLAB - 1, SLAB, SLAB + 1, 3 * SLAB + 2])
def test_blocks_hold_every_voxel(planes):
    array = np.random.default_rng(planes).random((planes, 9, 7)) < 0.02
    array[-1, -1, -1] = True
    mask = cut(array)
    np.testing.assert_array_equal(paste(mask, array.shape), array)
    assert mask.voxels == array.sum()


@pytest.mark.parametrize("z", [0, 1, SLAB - 1, SLAB, 5 * SLAB + 3])
def test_blocks_of_a_part_are_those_of_the_volume(z):
    part = np.random.default_rng(0).random((2 * SLAB + 5, 6, 5)) < 0.1
    volume = np.zeros((9 * SLAB, 20, 20), bool)
    volume[z : z + len(part), 4:10, 7:12] = part
    mask, whole = cut(part, (z, 4, 7)), cut(volume)
    assert mask.by_slab.keys() == whole.by_slab.keys()
    np.testing.assert_array_equal(paste(mask, volume.shape), volume)


def test_blocks_are_cropped_copies():
    array = box((40, 30, 30), (18, 20), (3, 5), (10, 14))
    (block,) = cut_blocks(array)
    assert block.array.shape[1:] == (2, 4)
    array[:] = False
    assert block.array.sum() == 16


def test_an_empty_mask():
    mask = cut(np.zeros((20, 3, 3), bool))
    assert mask.blocks == ()
    assert mask.voxels == 0
    surface = find_surface(mask, UNIT)
    assert surface.corners.shape == (3, 0)
    assert surface.areas_mm2.shape == (0,)


def test_stray_voxels_cost_a_block_each():
    array = np.zeros((20 * SLAB, 200, 200), bool)
    array[0, 0, 0] = array[-1, -1, -1] = True
    array[5 * SLAB, 90:110, 90:110] = True
    tracemalloc.start()
    mask = cut(array)
    find_surface(mask, UNIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(block.array.size for block in mask.blocks) <= SLAB * 402
    assert peak < array.size / 10


# Areas


def test_areas_of_every_neighborhood():
    """They are those of the package."""
    spacing_mm = (3.0, 0.7, 0.9)
    ours = surfaces._unit_areas() @ surfaces._facet_sizes(spacing_mm)
    theirs = lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    # The package counts the eight voxels' bits from the other end.
    flipped = [int(f"{code:08b}"[::-1], 2) for code in range(256)]
    np.testing.assert_allclose(ours, theirs[flipped], rtol=1e-12)


def test_areas_of_a_voxel_and_a_box_by_hand():
    # A voxel is cut to an octahedron: 8 triangles of half-diagonals, sqrt(3)/8 each.
    single = find_surface(cut(np.ones((1, 1, 1), bool)), UNIT)
    assert single.areas_mm2.sum() == pytest.approx(np.sqrt(3))
    # A cube of 4 voxels: on each of 6 faces 3x3 whole corners, on each of 12 edges 3 rectangles
    # of sqrt(2)/2, and 8 corner triangles.
    cube = find_surface(cut(box((6, 6, 6), (1, 5), (1, 5), (1, 5))), UNIT)
    assert cube.areas_mm2.sum() == pytest.approx(54 + 18 * np.sqrt(2) + np.sqrt(3))
    # The same cube of voxels of 2 x 3 x 5 mm, one face's corner across z: 3 x 5 mm.
    stretched = find_surface(cut(box((6, 6, 6), (1, 5), (1, 5), (1, 5))), (2.0, 3.0, 5.0))
    middle = np.all(stretched.corners == [[1], [3], [3]], axis=0)
    assert stretched.areas_mm2[middle].tolist() == [15]


@pytest.mark.parametrize("z", [0, 1, SLAB - 1, SLAB, 2 * SLAB - 3])
def test_a_surface_moves_with_its_mask(z):
    mask = np.random.default_rng(0).random((2 * SLAB + 8, 9, 7)) < 0.1
    surface, moved = find_surface(cut(mask), UNIT), find_surface(cut(mask, (z, 5, 3)), UNIT)
    np.testing.assert_array_equal(moved.corners, np.add(surface.corners, [[z], [5], [3]]))
    np.testing.assert_array_equal(moved.areas_mm2, surface.areas_mm2)


def test_elements_stand_at_the_border_once():
    mask = np.random.default_rng(1).random((2 * SLAB, 9, 7)) < 0.3
    padded = np.pad(mask, 1)
    around = sum(
        padded[z : z + 2 * SLAB + 1, y : y + 10, x : x + 8].astype(int)
        for z, y, x in np.ndindex(2, 2, 2)
    )
    expected = np.argwhere((around > 0) & (around < 8)).T
    surface = find_surface(cut(mask), UNIT)
    np.testing.assert_array_equal(surface.corners, expected)
