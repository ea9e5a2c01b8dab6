"""A CT volume that shapes are painted on, with partial volume at every boundary.

Coordinates are in mm in the order of the array axes (z inferior, y posterior, x left). A shape is
given by its level: a field that is negative inside, zero on the surface, and changes by about 1 a
mm. Levels are evaluated on a coarse lattice, whose warped coordinates bend every shape a little,
and interpolated to the voxels that they cover.
"""

from itertools import pairwise

import numpy as np

from kitsjax.types import Box, Shape, Spacing

AIR_HU = -1000.0

LATTICE_MM = 3.0
"""Points of the lattice are this far apart, or farther if the voxels are large."""

WARP_MARGIN_MM = 14.0
"""A region is widened by this, since the warp moves points: by 4.7 mm (standard deviation)."""

SLAB_VOXELS = 1 << 18
"""A float32 array of this many voxels takes 1 MiB, which stays in the processor's cache."""

SPLINE_VARIANCE = 0.4794
"""Cubic B-spline weights along an axis leave this share of white noise's variance, on average."""

Taps = tuple[np.ndarray, np.ndarray]
"""Interpolation along an axis to n points: the first source index of each point (n,), and the
weights (taps, n) of this and the following source values."""


class Scene:
    """A CT volume that starts as air, and the lattice on which shapes are evaluated.

    Args:
        rng: source of the smooth fields; how many numbers it gives depends on the lattice.
        shape: number of voxels (z, y, x).
        spacing_mm: voxel edges (z, y, x).
        first_mm: center of voxel (0, 0, 0).
        reach_mm: the lattice ends at this distance (z, y, x) from the origin.

    Attributes:
        image: (z, y, x) float32, the CT in HU.
        voxels: coordinates in mm of the voxel centers along each axis.
        step: distance in mm between points of the lattice.
        lattice: coordinates in mm of the lattice points along each axis, before the warp.
        everywhere: the region of the whole lattice.
        mm: (3, z, y, x), warped coordinates in mm of the lattice points.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        shape: Shape,
        spacing_mm: Spacing,
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
        # Smooth fields move the coordinates by a few mm, so that every shape painted is bent.
        self.mm = np.stack(np.meshgrid(*self.lattice, indexing="ij"))
        for axis in self.mm:
            axis += 4.5 * self.noise(self.everywhere, 65) + 1.2 * self.noise(self.everywhere, 22)

    def around(self, center: np.ndarray, reach_mm: float | np.ndarray) -> Box:
        """Return the lattice region within `reach_mm` of a point, with a margin for the warp."""
        reach = np.asarray(reach_mm)
        low, high = center - reach - WARP_MARGIN_MM, center + reach + WARP_MARGIN_MM
        z, y, x = (
            slice(*np.searchsorted(axis, (a, b)))
            for axis, a, b in zip(self.lattice, low, high, strict=True)
        )
        return z, y, x

    def at(self, region: Box) -> np.ndarray:
        """Return the warped coordinates of a region, (3, z, y, x) in mm."""
        return self.mm[(slice(None), *region)]

    def noise(self, region: Box, scale_mm: float) -> np.ndarray:
        """Draw a smooth random field on a region, of mean 0 and standard deviation about 1.

        Its values are independent beyond a few `scale_mm`.
        """
        points = [axis[r] for axis, r in zip(self.lattice, region, strict=True)]
        # White noise at the control points of a cubic B-spline, `scale_mm` apart. It is divided by
        # the standard deviation that interpolation along three axes leaves of it.
        counts = [int(np.ptp(p) / scale_mm) + 4 for p in points]
        field = self.rng.standard_normal(counts, np.float32) / np.float32(SPLINE_VARIANCE**1.5)
        for axis, p in enumerate(points):
            field = _along(axis, field, _spline_taps(p, scale_mm))
        return field

    def paint(
        self, level: np.ndarray, region: Box, value: float | np.ndarray, opacity: float = 1.0
    ) -> None:
        """Blend a value in HU over the inside of a level.

        The level divided by its change across one voxel is the distance from the surface in
        voxels. The share of a voxel that the shape covers is 1/2 minus this distance, clipped to 0
        and 1: partial volume to first order, slice thickness included.

        Args:
            level: on the lattice region.
            region: where on the lattice.
            value: HU, one number or a field on the region.
            opacity: largest share of a voxel that the value replaces.
        """
        if min(level.shape) < 2:
            return
        # The distance from the surface in voxels, positive outside. Where the level is flat, a
        # tenth of a voxel keeps the divisor away from 0.
        slopes = np.gradient(level, self.step)
        across = sum(abs(g) * h for g, h in zip(slopes, self.spacing_mm, strict=True))
        distance = (level / np.maximum(across, 0.1 * min(self.spacing_mm))).astype(np.float32)
        near = distance < 1
        if not near.any():
            return
        # Cut the region down to the shape, which often fills a small part of it.
        z, y, x = (_extent(near.any(axes)) for axes in ((1, 2), (0, 2), (0, 1)))
        distance = distance[z, y, x]
        box, (to_z, (row, weights), to_x) = self._window(region, (z, y, x))
        target = self.image[box]
        # Interpolate from the lattice to the voxels along x for the whole region; along y and z
        # for a slab of rows at a time, whose arrays stay in the cache.
        distance = _along(2, distance, to_x)
        textured = _along(2, value[z, y, x], to_x) if isinstance(value, np.ndarray) else None
        rows = 1 + SLAB_VOXELS // (target.shape[0] * target.shape[2] + 1)
        for start in range(0, target.shape[1], rows):
            slab = slice(start, start + rows)
            to_y = row[slab], weights[:, slab]
            cover = _along(0, _along(1, distance, to_y), to_z)
            np.clip(0.5 - cover, 0, opacity, out=cover)
            hu = value if textured is None else _along(0, _along(1, textured, to_y), to_z)
            # In place: target + cover * (hu - target).
            cover *= hu - target[:, slab]
            target[:, slab] += cover

    def to_voxels(self, field: np.ndarray, region: Box) -> tuple[Box, np.ndarray]:
        """Interpolate a lattice field to the voxels of its region; return their box first."""
        box, taps = self._window(region, self.everywhere)
        for axis in (2, 1, 0):
            field = _along(axis, field, taps[axis])
        return box, field

    def distance_mm(self, level: np.ndarray) -> np.ndarray:
        """Return the signed distance to a level's surface, to first order."""
        slope = np.sqrt(sum(g * g for g in np.gradient(level, self.step)))
        return level / np.maximum(slope, 0.1)

    def _window(self, region: Box, part: Box) -> tuple[Box, list[Taps]]:
        """Return the voxels inside a part of a lattice region, and linear interpolation to them."""
        box, taps = [], []
        for axis, r, p, voxels in zip(self.lattice, region, part, self.voxels, strict=True):
            points = axis[r][p]
            # Voxels between the first and the last lattice point, in units of the lattice.
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
    """Return the level of a superellipsoid about `center`; radii in mm, power 2 is an ellipsoid."""
    # Python's numbers, unlike NumPy's float64, keep the arrays float32, which halves the time.
    terms = [
        (abs(c - float(m)) / float(r)) ** power for c, m, r in zip(mm, center, radii, strict=True)
    ]
    return ((terms[0] + terms[1] + terms[2]) ** (1 / power) - 1) * float(min(radii))


def tube(mm: np.ndarray, path: np.ndarray, radius: float) -> np.ndarray:
    """Return the level of a tube of `radius` mm around a polyline (points, 3)."""
    # The squared distance to the nearest segment so far.
    nearest = np.full(mm.shape[1:], np.inf, np.float32)
    path = path.astype(np.float32)
    for start, end in pairwise(path):
        span = end - start
        z, y, x = (c - m for c, m in zip(mm, start, strict=True))
        # The nearest point of the segment is start + t * span.
        t = np.clip((z * span[0] + y * span[1] + x * span[2]) / (span @ span), 0, 1)
        gap = (z - t * span[0]) ** 2 + (y - t * span[1]) ** 2 + (x - t * span[2]) ** 2
        nearest = np.minimum(nearest, gap)
    return np.sqrt(nearest) - radius


def _extent(present: np.ndarray) -> slice:
    """Return the range of true entries, and one more on either side."""
    indices = np.flatnonzero(present)
    return slice(max(int(indices[0]) - 1, 0), min(int(indices[-1]) + 2, len(present)))


def _along(axis: int, field: np.ndarray, taps: Taps) -> np.ndarray:
    """Interpolate a field along one axis.

    Two or four shifted copies are weighted and added: for so few taps a matrix product would take
    longer to start BLAS's threads.
    """
    first, weights = taps
    # The weights vary along this axis and broadcast over the other two.
    shape = [1, 1, 1]
    shape[axis] = -1
    out = field.take(first, axis) * weights[0].reshape(shape)
    for tap, weight in enumerate(weights[1:], 1):
        part = field.take(first + tap, axis)
        part *= weight.reshape(shape)
        out += part
    return out


def _spline_taps(points: np.ndarray, scale_mm: float) -> Taps:
    """Return the weights of the four cubic B-splines, `scale_mm` apart, that reach each point."""
    place = (points - points[0]) / scale_mm
    first = place.astype(int)
    # The four pieces of the B-spline at a point's position t, from 0 to 1, between control points.
    t = place - first
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return first, (np.stack(weights) / 6).astype(np.float32)
