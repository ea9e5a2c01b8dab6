"""Where patches lie, and reading them."""

import numpy as np
import pytest

from kitsjax.data.patches import draw_start, forced_foreground, oversized_start, read_patch

PATCH = (12, 12, 12)


def test_patch_within_the_volume_is_the_slice():
    array = np.arange(6 * 7 * 8).reshape(6, 7, 8)
    assert (read_patch(array, (1, 2, 3), (4, 4, 4)) == array[1:5, 2:6, 3:7]).all()


@pytest.mark.parametrize("seed", range(20))
def test_patch_is_the_slice_of_a_padded_volume(seed):
    rng = np.random.default_rng(seed)
    array = rng.integers(1, 99, size=rng.integers(2, 9, 3))
    shape = tuple(rng.integers(1, 9, 3))
    start = tuple(int(s) for s in rng.integers(-12, 12, 3))
    padded = np.pad(array, 24)
    expected = padded[tuple(slice(24 + s, 24 + s + n) for s, n in zip(start, shape, strict=True))]
    assert (read_patch(array, start, shape) == expected).all()


@pytest.mark.parametrize(("share", "forced"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
def test_a_third_of_every_share_is_forced(share, forced):
    assert sum(forced_foreground(slot, share, 1 / 3) for slot in range(share)) == forced


def test_no_and_full_oversampling():
    assert not any(forced_foreground(slot, 4, 0.0) for slot in range(4))
    assert all(forced_foreground(slot, 4, 1.0) for slot in range(4))


def test_foreground_classes_are_drawn_alike(cases):
    rng = np.random.default_rng(0)
    hits = {1: 0, 2: 0, 3: 0}
    label = cases[0].label()
    for _ in range(600):
        start = draw_start(rng, cases[0], PATCH, foreground=True)
        hits[int(label[tuple(s + p // 2 for s, p in zip(start, PATCH, strict=True))])] += 1
    # 600 draws at 1/3: sd is 11.5.
    assert all(abs(n - 200) < 60 for n in hits.values()), hits


def center_label(case, start):
    return int(case.label()[tuple(s + p // 2 for s, p in zip(start, PATCH, strict=True))])


def draw_centers(case, weights, seed=0, count=800):
    """How often a foreground patch was centered on each label value."""
    rng = np.random.default_rng(seed)
    starts = [draw_start(rng, case, PATCH, True, weights) for _ in range(count)]
    return np.bincount([center_label(case, start) for start in starts], minlength=4)


def test_foreground_classes_follow_their_weights(cases):
    hits = draw_centers(cases[0], (1.0, 4.0, 3.0))
    # 800 draws at 1/8, 1/2 and 3/8: the largest sd is 14.
    np.testing.assert_allclose(hits, [0, 100, 400, 300], atol=45)
    assert (draw_centers(cases[0], (0.0, 0.0, 2.0)) == [0, 0, 0, 800]).all()


def test_weights_are_among_the_classes_present(monkeypatch, cases):
    monkeypatch.setattr(type(cases[0]), "present", property(lambda _: (1, 3)))
    np.testing.assert_allclose(draw_centers(cases[0], (1.0, 5.0, 3.0)), [0, 200, 0, 600], atol=45)
    # With none of them the patch is any, as in a case without foreground.
    rng = np.random.default_rng(0)
    starts = np.array([draw_start(rng, cases[0], PATCH, True, (0, 1, 0)) for _ in range(500)])
    assert starts.min(0).tolist() == [0, 0, 0]
    assert starts.max(0).tolist() == [n - 12 for n in cases[0].shape]


@pytest.mark.parametrize("weight", [1.0, 0.1])
def test_equal_weights_are_the_uniform_draw(cases, weight):
    """The stream of a run without weights is as it was: `choice` without probabilities."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        center = rng.choice(cases[0].positions(rng.choice(cases[0].present)))
        found = draw_start(np.random.default_rng(seed), cases[0], PATCH, True, (weight,) * 3)
        assert found == tuple(int(c) - p // 2 for c, p in zip(center, PATCH, strict=True))


def test_random_patch_reaches_the_ends_exactly(cases):
    rng = np.random.default_rng(0)
    starts = np.array([draw_start(rng, cases[0], PATCH, foreground=False) for _ in range(500)])
    assert starts.min(0).tolist() == [0, 0, 0]
    assert starts.max(0).tolist() == [n - 12 for n in cases[0].shape]


def test_axis_shorter_than_the_patch_is_centered(cases):
    rng = np.random.default_rng(0)
    for _ in range(5):
        z = draw_start(rng, cases[1], PATCH, foreground=False)[0]
        assert z == -2  # 9 voxels amid 12: 2 before and 1 after


def test_case_without_foreground_falls_back(monkeypatch, cases):
    case = cases[0]
    monkeypatch.setattr(type(case), "present", property(lambda _: ()))
    start = draw_start(np.random.default_rng(0), case, PATCH, foreground=True)
    assert min(start) >= 0


def test_oversized_patch_is_centered_on_the_patch():
    start, oversized = (3, 4, 5), (21, 20, 12)
    oversized_at = oversized_start(start, PATCH, oversized)
    array = np.random.default_rng(0).random((40, 40, 40))
    big, small = read_patch(array, oversized_at, oversized), read_patch(array, start, PATCH)
    crop = tuple(slice((b - 12) // 2, (b - 12) // 2 + 12) for b in oversized)
    assert (big[crop] == small).all()
