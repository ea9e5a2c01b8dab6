"""Where patches lie in a volume, and how they are read: foreground oversampling and padding.

  volume
+------------+              A patch p is given by its start. It may overhang the volume on any
|   .........|.......       side: one centered on a voxel near the border does, and so does one
|   .        |      .       that is longer than the volume. The overhang is padding.
|   .   +----|--+   .
|   .   |    |  |   .       The oversized patch (dotted; nnU-Net: initial patch size) is what is
+---.---|----+  |   .       read. It has the center of p and is larger, so that p is still filled
    .   |     p |   .       after the oversized patch was rotated or scaled.
    .   +-------+   .
    .               .
    .................
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kitsjax.data.normalization import normalize
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.types import Index, Shape


def forced_foreground(slot: int, share: int, fraction: float) -> bool:
    """Decide whether a slot of a host's share of the batch must be centered on foreground.

    The first ceil(share * fraction) slots must, so that every share, and with it every batch, has
    at least that fraction: 2 of 4 for the paper's third.

    Args:
        slot: position in the host's share of the batch, from 0.
        share: number of samples that the host contributes to a batch.
        fraction: least fraction of samples centered on foreground, 0 to 1.
    """
    # A fraction such as 1/3 is not exact in binary: 3 * (1/3) must not become 2 slots.
    return slot < int(np.ceil(share * fraction - 1e-9))


def draw_start(
    rng: np.random.Generator,
    case: PreprocessedCase,
    patch_shape: Shape,
    foreground: bool,
    class_weights: Sequence[float] = (),
) -> Index:
    """Draw the start (z, y, x) of a random patch; negative where it overhangs the volume.

    A foreground patch is centered on a stored voxel of a class that is drawn from those present in
    the case. Any other patch, and every patch of a case without such a class, is uniform over all
    positions within the volume, the last one included. Along an axis that is shorter than the
    patch, the patch is centered on the volume.

    Args:
        rng: makes the draws.
        case: the case that the patch is of.
        patch_shape: (z, y, x) in voxels.
        foreground: whether it is a foreground patch.
        class_weights: weight of each label value from 1 in the draw; a class of weight 0 is never
            drawn. Empty: all are equal.
    """
    values = case.present if foreground else ()
    weights = {value: class_weights[value - 1] if class_weights else 1.0 for value in values}
    weights = {value: weight for value, weight in weights.items() if weight}
    if weights:
        value = _draw_class(rng, weights)
        center = rng.choice(case.positions(value))
        z, y, x = (int(c) - p // 2 for c, p in zip(center, patch_shape, strict=True))
        return z, y, x
    # The last start at which the patch is within the volume; negative where the volume is shorter.
    last = [n - p for n, p in zip(case.shape, patch_shape, strict=True)]
    z, y, x = (int(rng.integers(0, n, endpoint=True)) if n > 0 else n // 2 for n in last)
    return z, y, x


def _draw_class(rng: np.random.Generator, weights: Mapping[int, float]) -> int:
    values, shares = list(weights), np.array(list(weights.values()))
    # A draw with probabilities takes other random numbers than one without.
    uniform = (shares == shares[0]).all()
    return int(rng.choice(values, p=None if uniform else shares / shares.sum()))


def oversized_start(start: Index, patch_shape: Shape, oversized_shape: Shape) -> Index:
    """Return the start of the oversized patch whose center crop is the patch at `start`."""
    z, y, x = (
        s - (big - p) // 2 for s, p, big in zip(start, patch_shape, oversized_shape, strict=True)
    )
    return z, y, x


def read_patch(
    array: np.ndarray, start: Index, shape: Shape, table: np.ndarray | None = None
) -> np.ndarray:
    """Read the patch at `start` into a new array of `shape`, zero outside the volume.

    With a table the volume is an image in HU, which is normalized; without one the patch has its
    voxels as they are.

    Zero is the mean of a normalized image, and background in a label. The label is padded with
    background, also where the scheme has a value that the loss ignores, because whole-volume
    prediction pads its windows with the same zeros: the network must have learned that nothing is
    there.
    """
    patch = np.zeros(shape, array.dtype if table is None else table.dtype)
    # The part of the patch within the volume, in voxels of the volume and then of the patch.
    inside = [
        slice(max(s, 0), max(min(s + p, n), 0))
        for s, p, n in zip(start, shape, array.shape, strict=True)
    ]
    target = tuple(
        slice(i.start - s, i.start - s + max(i.stop - i.start, 0))
        for i, s in zip(inside, start, strict=True)
    )
    if all(t.stop > t.start for t in target):
        if table is None:
            patch[target] = array[tuple(inside)]
        else:
            normalize(array[tuple(inside)], table, out=patch[target])
    return patch
