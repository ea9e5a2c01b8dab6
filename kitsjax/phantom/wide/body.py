"""The body that the wide phantom's painters share: the scene, the patient, and the cavity's level.

Nothing of the abdomen lies outside the cavity. A painter calls `organ` and `tube`, which leave out
what the scan does not show.
"""

from dataclasses import dataclass

import numpy as np

from kitsjax.phantom.painting import Scene, ellipsoid, tube
from kitsjax.phantom.wide.patient import WidePatient
from kitsjax.types import Box


@dataclass(frozen=True, eq=False)
class Body:
    """A body in a scan.

    Attributes:
        rng: draws the anatomy.
        scene: the CT volume.
        patient: the patient.
        muscle: level of the inside of the fat under the skin, on the whole lattice.
        cavity: level of the abdominal cavity.
        chest: level of the chest's cavity, above the diaphragm.
    """

    rng: np.random.Generator
    scene: Scene
    patient: WidePatient
    muscle: np.ndarray
    cavity: np.ndarray
    chest: np.ndarray

    @property
    def hu(self) -> dict[str, float]:
        """The HU of each tissue."""
        return self.patient.hu

    def has(self, feature: str) -> bool:
        """Tell whether the case shows a feature."""
        return feature in self.patient.features

    def around(self, center: np.ndarray, reach_mm: float | np.ndarray) -> Box | None:
        """Return the lattice region around a point; None where the scan shows nothing of it."""
        region = self.scene.around(center, reach_mm)
        lengths = [len(a[r]) for a, r in zip(self.scene.lattice, region, strict=True)]
        return region if min(lengths) >= 3 else None

    def organ(
        self,
        center: np.ndarray,
        radii: tuple[float, float, float],
        hu: float,
        rough: float = 2.0,
        texture: float = 3.0,
        halo_mm: float = 0.0,
        power: float = 2.2,
        within: np.ndarray | None = None,
    ) -> None:
        """Paint a lumpy superellipsoid inside the cavity.

        Args:
            center: (z, y, x) in mm.
            radii: in mm.
            hu: its mean.
            rough: standard deviation in mm of the unevenness of its surface.
            texture: standard deviation in HU of what it looks like inside.
            halo_mm: thickness of the fat around it.
            power: of the superellipsoid.
            within: level that it stays inside of, on the whole lattice; None: the cavity.
        """
        region = self.around(center, np.array(radii) + 3 * rough)
        if region is None:
            return
        scene, wall = self.scene, (self.cavity if within is None else within)[region]
        level = ellipsoid(scene.at(region), center, radii, power)
        level = level + rough * scene.noise(region, max(5, 0.5 * min(radii)))
        level = np.maximum(level, wall + 1)
        if halo_mm:
            scene.paint(np.maximum(level - halo_mm, wall), region, self.hu["fat"])
        scene.paint(level, region, hu + texture * scene.noise(region, 8))

    def tube(
        self, path: np.ndarray, radius_mm: float, hu: float, within: np.ndarray | None = None
    ) -> None:
        """Paint a tube of one HU along a polyline (points, 3), inside the cavity or `within`."""
        region = self.around((path.max(0) + path.min(0)) / 2, np.ptp(path, 0) / 2 + radius_mm)
        if region is not None:
            wall = (self.cavity if within is None else within)[region]
            level = tube(self.scene.at(region), path, radius_mm)
            self.scene.paint(np.maximum(level, wall), region, hu)

    def path(self, *places: tuple[float, float, float]) -> np.ndarray:
        """Scale places of the average patient to this one: (points, 3) in mm."""
        return np.stack([self.patient.at(*place) for place in places])
