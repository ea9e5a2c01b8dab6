"""Properties that hold for any geometry, window, patch or mask; hypothesis searches exceptions."""

from types import SimpleNamespace

import nibabel as nib
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kitsjax.data.patches import draw_start, oversized_start, read_patch
from kitsjax.evaluate.metrics import compare_surfaces, dice
from kitsjax.evaluate.surfaces import Mask, cut_blocks, find_surface
from kitsjax.image.read_nifti import read_label
from kitsjax.image.resample import resample_nearest, resampled_shape, resampled_spacing
from kitsjax.image.write_nifti import write_label
from kitsjax.infer.sliding_window import window_positions

# The same examples in each run, and no limit on their time.
EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True)

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)
SPACINGS = st.tuples(*[st.floats(0.3, 6.0)] * 3)


def label_of(shape, seed):
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)


@EXAMPLES
@given(
    shape=SHAPES, spacing=SPACINGS, order=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from((-1, 1))] * 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_labels_come_back_in_their_own_layout(tmp_path_factory, shape, spacing, order, signs, seed):
    """Whatever the order and direction of a file's axes, reading and writing are inverse."""
    folder = tmp_path_factory.mktemp("layout")
    stored = label_of(shape, seed)
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs)[:, order] * np.array(spacing)
    nib.save(nib.Nifti1Image(stored, affine), folder / "a.nii")
    label = read_label(folder / "a.nii")
    assert sorted(label.spacing_mm) == [*map(np.float32, sorted(spacing))]
    write_label(folder / "b.nii", label, label.header)
    again = nib.load(folder / "b.nii")
    np.testing.assert_array_equal(np.asarray(again.dataobj), stored)
    np.testing.assert_array_equal(again.affine, nib.load(folder / "a.nii").affine)


@EXAMPLES
@given(shape=SHAPES, spacing=SPACINGS, factor=st.integers(1, 4), seed=st.integers(0, 99))
def test_finer_grids_lose_no_label(shape, spacing, factor, seed):
    """Nearest neighbors on a grid of whole parts, and back, give every voxel again."""
    label = label_of(shape, seed)
    fine = tuple(n * factor for n in shape)
    back = resample_nearest(resample_nearest(label, fine), shape)
    np.testing.assert_array_equal(back, label)
    edges = [n * s for n, s in zip(shape, spacing, strict=True)]
    true = resampled_spacing(shape, spacing, fine)
    np.testing.assert_allclose([n * s for n, s in zip(fine, true, strict=True)], edges)
    assert resampled_shape(shape, spacing, true) == fine


@EXAMPLES
@given(
    sizes=st.tuples(*[st.integers(1, 40)] * 3), patch=st.tuples(*[st.integers(1, 12)] * 3),
    step=st.floats(0.05, 1.0),
)  # fmt: skip
def test_windows_cover_all_and_leave_nothing(sizes, patch, step):
    shape = tuple(map(max, sizes, patch))
    covered = np.zeros(shape, int)
    positions = window_positions(shape, patch, step)
    for start in positions:
        box = tuple(slice(s, s + p) for s, p in zip(start, patch, strict=True))
        assert covered[box].shape == patch, "a window overhangs the volume"
        covered[box] += 1
    assert covered.min() >= 1
    for axis in range(3):
        starts = np.unique(positions[:, axis])
        assert (starts[0], starts[-1]) == (0, shape[axis] - patch[axis])
        # A stride is rounded to whole voxels.
        assert np.diff(starts).max(initial=0) <= max(1, step * patch[axis]) + 1


@EXAMPLES
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3), patch=st.tuples(*[st.integers(1, 8)] * 3),
    more=st.tuples(*[st.integers(0, 5)] * 3), foreground=st.booleans(), seed=st.integers(0, 999),
)  # fmt: skip
def test_patches_hold_what_lies_there(shape, patch, more, foreground, seed):
    """Any patch is the slice of the volume padded by zeros, and a forced one has its voxel."""
    rng = np.random.default_rng(seed)
    volume = 1 + np.arange(np.prod(shape)).reshape(shape)
    wanted = tuple(int(rng.integers(n)) for n in shape)
    case = SimpleNamespace(shape=shape, present=(2,), positions=lambda _: np.array([wanted]))
    start = draw_start(rng, case, patch, foreground)
    found = read_patch(volume, start, patch)
    far = max(*shape, *patch) + 10
    padded = np.pad(volume, far)
    box = tuple(slice(s + far, s + far + p) for s, p in zip(start, patch, strict=True))
    np.testing.assert_array_equal(found, padded[box])
    if foreground:
        assert volume[wanted] in found
    else:
        least = [min(n, p) for n, p in zip(shape, patch, strict=True)]
        assert np.count_nonzero(found) == np.prod(least), "it overhangs where it need not"
    oversized = tuple(p + m for p, m in zip(patch, more, strict=True))
    large = read_patch(volume, oversized_start(start, patch, oversized), oversized)
    crop = tuple(slice(m // 2, m // 2 + p) for m, p in zip(more, patch, strict=True))
    np.testing.assert_array_equal(large[crop], found)


MASKS = arrays(bool, (4, 5, 6), elements=st.booleans(), fill=st.just(False))


@EXAMPLES
@given(a=MASKS, b=MASKS, spacing=SPACINGS, tolerance=st.floats(0.1, 20.0))
def test_scores_are_symmetric_and_in_range(a, b, spacing, tolerance):
    masks = [Mask(tuple(cut_blocks(mask))) for mask in (a, b)]
    found = dice(*masks)
    sums = a.sum() + b.sum()
    assert found == (2 * (a & b).sum() / sums if sums else 1.0)
    assert dice(*reversed(masks)) == found
    surfaces = [find_surface(mask, spacing) for mask in masks]
    score = compare_surfaces(*surfaces, tolerance)
    back = compare_surfaces(*reversed(surfaces), tolerance)
    assert 0 <= score.surface_dice <= 1 + 1e-12
    assert np.isclose(back.surface_dice, score.surface_dice, rtol=1e-12)
    np.testing.assert_equal(back.hausdorff95_mm, score.hausdorff95_mm)
    wider = compare_surfaces(*surfaces, 2 * tolerance)
    assert wider.surface_dice >= score.surface_dice - 1e-12
    own = compare_surfaces(surfaces[0], surfaces[0], tolerance)
    assert own.surface_dice == 1
    assert np.isnan(own.hausdorff95_mm) if not a.any() else own.hausdorff95_mm == 0
