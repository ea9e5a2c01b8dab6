"""A CT volume that shapes are painted on, with partial volume at every boundary.

Coordinates are patient millimeters in the house's order (z inferior, y posterior, x left). A shape
is a level: negative inside, zero on the surface, in about mm. Levels are evaluated on a coarse
warped lattice, which bends every shape a little, and interpolated to the voxels they cover.
"""

from itertools import pairwise

import numpy as np

from kitsjax.types import Box

AIR_HU = -1000.0
LATTICE_MM = 3.0
SLAB_VOXELS = 1 << 18  # one float32 array of a slab is 1 MiB: it stays in the cache

Taps = tuple[np.ndarray, np.ndarray]
"""Interpolation along an axis: first source index (n,), and weights (taps, n) from there on."""

SPLINE_VARIANCE = 0.4794
"""Share of white noise's variance that cubic B-spline weights leave, an axis, on average."""


class Scene:
    """A CT volume that starts as air, and the lattice on which shapes are evaluated.

    Args:
        rng: draws the smooth fields; how much is drawn depends on the lattice.
        shape: voxels (z, y, x).
        spacing_mm: voxel edges (z, y, x).
        first_mm: center of voxel (0, 0, 0).
        reach_mm: nothing is painted farther than this from the origin (z, y, x).
    """

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int, int],
        spacing_mm: tuple[float, float, float],
        first_mm: tuple[float, float, float],
        reach_mm: tuple[float, float, float],
    ):
        self.rng = rng
        self.spacing_mm = spacing_mm
        self.image = np.full(shape, AIR_HU, np.float32)
        self.voxels = [
            first + h * np.arange(n, dtype=np.float32)
            for first, h, n in zip(first_mm, spacing_mm, shape, strict=True)
        ]
        # Large voxels need no finer lattice than themselves.
        self.step = step = max(LATTICE_MM, 0.75 * spacing_mm[2])
        self.lattice = [
            np.arange(
                max(v[0] - 2 * step, -reach), min(v[-1] + 3 * step, reach), step, dtype=np.float32
            )
            for v, reach in zip(self.voxels, reach_mm, strict=True)
        ]
        self.everywhere: Box = (slice(None), slice(None), slice(None))
        self.mm = np.stack(np.meshgrid(*self.lattice, indexing="ij"))
        for axis in self.mm:
            axis += 4.5 * self.noise(self.everywhere, 65) + 1.2 * self.noise(self.everywhere, 22)

    def around(self, center: np.ndarray, reach_mm: float | np.ndarray) -> Box:
        """Lattice region within `reach_mm` of a point, and a margin for the warp."""
        low, high = center - np.asarray(reach_mm) - 14, center + np.asarray(reach_mm) + 14
        z, y, x = (
            slice(*np.searchsorted(axis, (a, b)))
            for axis, a, b in zip(self.lattice, low, high, strict=True)
        )
        return z, y, x

    def at(self, region: Box) -> np.ndarray:
        """Warped coordinates of a region, (3, z, y, x), mm."""
        return self.mm[(slice(None), *region)]

    def noise(self, region: Box, scale_mm: float) -> np.ndarray:
        """Smooth random field on a region, of mean 0 and standard deviation about 1."""
        points = [axis[r] for axis, r in zip(self.lattice, region, strict=True)]
        counts = [int(np.ptp(p) / scale_mm) + 4 for p in points]
        field = self.rng.standard_normal(counts, np.float32) / np.float32(SPLINE_VARIANCE**1.5)
        for axis, p in enumerate(points):
            field = _along(axis, field, _spline_taps(p, scale_mm))
        return field

    def paint(
        self, level: np.ndarray, region: Box, value: float | np.ndarray, opacity: float = 1.0
    ) -> None:
        """Blend `value` (HU, one number or one a lattice point) over the inside of a level.

        The level is divided by its change across one voxel, so that clipping it to +-1/2 gives
        the covered share of the voxel to first order: partial volume, slice thickness included.
        """
        if min(level.shape) < 2:
            return
        slopes = np.gradient(level, self.step)
        across = sum(abs(g) * h for g, h in zip(slopes, self.spacing_mm, strict=True))
        depth = (level / np.maximum(across, 0.1 * min(self.spacing_mm))).astype(np.float32)
        covered = depth < 1
        if not covered.any():
            return
        z, y, x = (_extent(covered.any(axes)) for axes in ((1, 2), (0, 2), (0, 1)))
        depth = depth[z, y, x]
        box, (to_z, (row, weights), to_x) = self._window(region, (z, y, x))
        target = self.image[box]
        depth = _along(2, depth, to_x)
        textured = _along(2, value[z, y, x], to_x) if isinstance(value, np.ndarray) else None
        rows = 1 + SLAB_VOXELS // (target.shape[0] * target.shape[2] + 1)
        for start in range(0, target.shape[1], rows):
            slab = slice(start, start + rows)
            to_y = row[slab], weights[:, slab]
            cover = _along(0, _along(1, depth, to_y), to_z)
            np.clip(0.5 - cover, 0, opacity, out=cover)
            hu = value if textured is None else _along(0, _along(1, textured, to_y), to_z)
            cover *= hu - target[:, slab]
            target[:, slab] += cover

    def to_voxels(self, field: np.ndarray, region: Box) -> tuple[Box, np.ndarray]:
        """A lattice field at the voxels of its region, and which voxels those are."""
        box, taps = self._window(region, self.everywhere)
        for axis in (2, 1, 0):
            field = _along(axis, field, taps[axis])
        return box, field

    def distance_mm(self, level: np.ndarray) -> np.ndarray:
        """Signed distance to a level's surface, to first order."""
        slope = np.sqrt(sum(g * g for g in np.gradient(level, self.step)))
        return level / np.maximum(slope, 0.1)

    def _window(self, region: Box, part: Box) -> tuple[Box, list[Taps]]:
        """The voxels inside a part of a lattice region, and linear interpolation to them."""
        box, taps = [], []
        for axis, r, p, voxels in zip(self.lattice, region, part, self.voxels, strict=True):
            points = axis[r][p]
            inside = slice(*(int(i) for i in np.searchsorted(voxels, points[[0, -1]])))
            place = (voxels[inside] - points[0]) / self.step
            first = np.clip(place.astype(int), 0, max(len(points) - 2, 0))
            box.append(inside)
            taps.append((first, np.stack([1 - (place - first), place - first]).astype(np.float32)))
        return (box[0], box[1], box[2]), taps


def ellipsoid(
    mm: np.ndarray,
    center: np.ndarray | tuple[float, ...],
    radii: np.ndarray | tuple[float, ...],
    power: float = 2,
) -> np.ndarray:
    """Level of a superellipsoid about `center`; radii in mm, power 2 is an ellipsoid."""
    # Python numbers, unlike NumPy's, leave float32 as it is: half the time.
    terms = [
        (abs(c - float(m)) / float(r)) ** power for c, m, r in zip(mm, center, radii, strict=True)
    ]
    return ((terms[0] + terms[1] + terms[2]) ** (1 / power) - 1) * float(min(radii))


def tube(mm: np.ndarray, path: np.ndarray, radius: float) -> np.ndarray:
    """Level of a tube of `radius` mm around a polyline (points, 3)."""
    nearest = np.full(mm.shape[1:], np.inf, np.float32)
    path = path.astype(np.float32)
    for start, end in pairwise(path):
        span = end - start
        z, y, x = (c - m for c, m in zip(mm, start, strict=True))
        t = np.clip((z * span[0] + y * span[1] + x * span[2]) / (span @ span), 0, 1)
        gap = (z - t * span[0]) ** 2 + (y - t * span[1]) ** 2 + (x - t * span[2]) ** 2
        nearest = np.minimum(nearest, gap)
    return np.sqrt(nearest) - radius


def _extent(present: np.ndarray) -> slice:
    """The range of true entries and one more on either side."""
    indices = np.flatnonzero(present)
    return slice(max(int(indices[0]) - 1, 0), min(int(indices[-1]) + 2, len(present)))


def _along(axis: int, field: np.ndarray, taps: Taps) -> np.ndarray:
    """Interpolate along one axis; a matrix product would wake BLAS's threads for a few taps."""
    first, weights = taps
    shape = [1, 1, 1]
    shape[axis] = -1
    out = field.take(first, axis) * weights[0].reshape(shape)
    for tap, weight in enumerate(weights[1:], 1):
        part = field.take(first + tap, axis)
        part *= weight.reshape(shape)
        out += part
    return out


def _spline_taps(points: np.ndarray, scale_mm: float) -> Taps:
    """Weights of the four cubic B-splines, `scale_mm` apart, that reach each point."""
    place = (points - points[0]) / scale_mm
    first = place.astype(int)
    t = place - first
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return first, (np.stack(weights) / 6).astype(np.float32)
