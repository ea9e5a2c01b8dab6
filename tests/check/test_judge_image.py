"""CTs as histograms: air, lungs, fat and soft tissue of known shares."""

import numpy as np
import pytest

from kitsjax.check.judge_image import judge_field, judge_hu
from kitsjax.data.normalization import count_hu
from kitsjax.image.volume import make_volume

RNG = np.random.default_rng(0)
AIR = RNG.normal(-1000, 15, 40_000)
LUNGS = RNG.normal(-850, 60, 15_000)
TISSUE = np.concatenate([RNG.normal(-100, 20, 15_000), RNG.normal(60, 30, 30_000)])
KIDNEY = RNG.normal(180, 30, 1000)
CT = np.concatenate([AIR, LUNGS, TISSUE, KIDNEY])


def judge(values, kidney=None):
    hu = np.rint(values).astype(np.int16)
    labeled = None if kidney is None else np.rint(kidney).astype(np.int16)
    return [found.name for found in judge_hu(count_hu(hu[None, None]), labeled)]


@pytest.mark.parametrize(
    ("values", "kidney"),
    [
        (CT, KIDNEY),
        (CT, None),
        (CT, KIDNEY[:0]),
        (np.maximum(CT, -1000), KIDNEY),
        (np.maximum(CT, -1024), KIDNEY),
        (CT + 40, KIDNEY + 40),
        (np.concatenate([LUNGS, AIR[:2000], TISSUE, KIDNEY]), KIDNEY),
        (np.concatenate([TISSUE, KIDNEY]), KIDNEY),
        (np.concatenate([RNG.normal(-600, 60, 1500), TISSUE, KIDNEY]), KIDNEY),
        (np.concatenate([CT, [-1500] * 50]), KIDNEY),
    ],
    ids=[
        "all", "no label", "empty label", "air cut at -1000", "air cut at -1024", "a little off",
        "mostly lungs", "no air in view", "gas in the bowel and no air", "a few voxels below air",
    ],
)  # fmt: skip
def test_a_ct_in_hu(values, kidney):
    assert judge(values, kidney) == []


@pytest.mark.parametrize("kidney", [None, KIDNEY])
@pytest.mark.parametrize("shift", [-300, 150, 400])
def test_a_shifted_ct(shift, kidney):
    """Air tells, without a label, too."""
    assert judge(CT + shift, None if kidney is None else kidney + shift) == ["shifted HU"]


def test_a_shifted_ct_without_air():
    """Where no voxel is as dark as air, the labeled tissue tells."""
    inside = np.concatenate([TISSUE, KIDNEY])
    assert judge(inside - 400, KIDNEY - 400) == ["shifted HU"]
    assert judge(CT + 900, KIDNEY + 900) == ["shifted HU"]


@pytest.mark.parametrize(
    "values",
    [CT + 1200, np.maximum(CT + 1000, 0), np.clip(CT, 0, 255)],
    ids=["shifted", "shifted and cut", "gray values"],
)
def test_a_ct_without_negative_values(values):
    assert judge(values, KIDNEY) == ["unsigned HU"]


def test_a_padded_ct():
    """One value far below air; the air within the padding is right."""
    assert judge(np.concatenate([CT, [-2048] * 30_000]), KIDNEY) == ["padded HU"]
    assert judge(np.concatenate([CT + 300, [-2048] * 30_000]), KIDNEY + 300) == [
        "padded HU", "shifted HU",
    ]  # fmt: skip


@pytest.mark.parametrize("low", [-160, -500])
def test_a_clipped_ct(low):
    assert judge(np.clip(CT, low, 240), KIDNEY) == ["clipped HU"]


@pytest.mark.parametrize(
    ("shape", "small"),
    [
        ((100, 90, 90), False),
        ((99, 90, 90), True),
        ((100, 89, 90), True),
        ((100, 90, 89), True),
    ],
)
def test_a_field_of_view(shape, small):
    """Voxels of 1 x 2 x 2 mm: 100 x 180 x 180 mm is the least."""
    grid = make_volume(np.zeros(shape, np.uint8), (1, 2, 2)).grid
    assert [found.name for found in judge_field(grid)] == ["small field of view"] * small
