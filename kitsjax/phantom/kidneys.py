"""The phantom's kidneys, tumors and cysts: the structures to segment."""

from typing import NamedTuple

import numpy as np

from kitsjax.phantom.anatomy import Patient
from kitsjax.phantom.painting import Scene, ellipsoid
from kitsjax.phantom.viscera import paint_tube
from kitsjax.types import Box


class PaintedStructure(NamedTuple):
    """A structure to segment.

    Attributes:
        kind: "kidney", "tumor" or "cyst".
        level: (z, y, x) on the lattice region: negative inside, in about mm.
        region: where on the lattice the structure lies.
    """

    kind: str
    level: np.ndarray
    region: Box


class Kidney(NamedTuple):
    """A kidney's place, size and direction.

    Attributes:
        center: (z, y, x) in mm.
        half_mm: half lengths from pole to pole, front to back, and hilum to convexity.
        axes: the unit vectors (z, y, x) of those three directions, one in each row.
        side: -1 for the right kidney, 1 for the left.
        bend_mm: how far the poles bend toward the spine.
        power: of the superellipsoid.
    """

    center: np.ndarray
    half_mm: np.ndarray
    axes: np.ndarray
    side: int
    bend_mm: float = 9
    power: float = 2.3

    def local(self, mm: np.ndarray) -> np.ndarray:
        """Rotate coordinates (3, z, y, x) in mm to the kidney's own axes, from its center."""
        return np.tensordot(self.axes, mm - self.center.reshape(3, 1, 1, 1), 1).astype(np.float32)

    def bean(self, mm: np.ndarray) -> np.ndarray:
        """Return the level of the outline: an ellipsoid whose poles bend toward the spine."""
        pole, front, out = self.local(mm)
        out = out + self.bend_mm * (pole / self.half_mm[0]) ** 2 - self.bend_mm / 3
        return ellipsoid(np.stack([pole, front, out]), (0, 0, 0), self.half_mm, self.power)


class Mass(NamedTuple):
    """A tumor or cyst on a kidney.

    Attributes:
        kind: "tumor" or "cyst".
        center: (z, y, x) in mm.
        radius: in mm.
        kidney: the kidney that the mass lies on.
    """

    kind: str
    center: np.ndarray
    radius: float
    kidney: Kidney


def place_kidneys(rng: np.random.Generator, patient: Patient) -> list[Kidney]:
    """Place two kidneys, the right one lower; in 3% of patients only one, which is larger."""
    sides = [-1, 1] if rng.random() > 0.03 else [int(rng.choice([-1, 1]))]
    size = rng.uniform(0.85, 1.12) * (1.12 if len(sides) == 1 else 1)
    kidneys = []
    for side in sides:
        center = patient.at(4 - 10 * side, 22, 67 * side) + rng.uniform(-6, 6, 3)
        half_mm = np.array([56, 26, 29]) * size * rng.uniform(0.92, 1.08, 3)
        # Lower poles lie lateral and in front; the hilum faces medially and forward.
        splay, tilt, rotation = rng.uniform([0.1, 0.05, 0.2], [0.35, 0.3, 0.7])
        long = np.array([1, -tilt, side * splay])
        long /= np.linalg.norm(long)
        # Make the second axis perpendicular to the first; the third is perpendicular to both.
        out = np.array([0, np.sin(rotation), side * np.cos(rotation)])
        out -= (out @ long) * long
        out /= np.linalg.norm(out)
        kidneys.append(Kidney(center, half_mm, np.stack([long, np.cross(out, long), out]), side))
    return kidneys


def place_masses(
    rng: np.random.Generator, scene: Scene, kidneys: list[Kidney], cavity: np.ndarray
) -> list[Mass]:
    """Place one to three tumors, as in KiTS, and cysts in half of the patients; none overlap.

    Diameters are log-normal: tumors of 15 to 90 mm with a median of 43, cysts of 8 to 60 with a
    median of 20. A mass that finds no free place in 40 attempts is left out.
    """
    tumors = 1 + int(rng.random() < 0.1) + int(rng.random() < 0.04)
    cysts = int(rng.integers(1, 5)) if rng.random() < 0.5 else 0
    masses: list[Mass] = []
    for kind in ["tumor"] * tumors + ["cyst"] * cysts:
        median, spread, low, high = (21.5, 0.4, 7.5, 45) if kind == "tumor" else (10, 0.5, 4, 30)
        for _ in range(40):
            kidney = kidneys[rng.integers(len(kidneys))]
            radius = float(np.clip(median * np.exp(spread * rng.standard_normal()), low, high))
            center = _place(rng, kidney, radius)
            # The center must lie deep enough inside the cavity, and within the slices of the CT.
            index = [np.abs(a - c).argmin() for a, c in zip(scene.lattice, center, strict=True)]
            inside = cavity[tuple(index)] < -min(0.6 * radius, 14)
            inside &= scene.voxels[0][0] < center[0] < scene.voxels[0][-1]
            apart = [np.linalg.norm(center - m.center) > radius + m.radius + 2 for m in masses]
            if inside and all(apart):
                masses.append(Mass(kind, center, radius, kidney))
                break
    return masses


def _place(rng: np.random.Generator, kidney: Kidney, radius: float) -> np.ndarray:
    """Draw a mass's center near the kidney's surface, seldom at the hilum, mostly half outside."""
    # Few directions point to the hilum, whose third coordinate is negative.
    direction = rng.standard_normal(3)
    direction[2] = 0.9 * abs(direction[2]) - 0.25
    direction /= np.linalg.norm(direction)
    # The point of the ellipsoid in that direction, moved outward or inward.
    surface = direction / np.linalg.norm(direction / kidney.half_mm)
    local = surface + direction * radius * rng.uniform(-0.7, 0.35)
    # Bend toward the spine, as `Kidney.bean` bends the outline.
    local[2] -= 9 * min(1, (local[0] / kidney.half_mm[0]) ** 2) - 3
    return kidney.center + local @ kidney.axes


def paint_kidney(
    rng: np.random.Generator, scene: Scene, patient: Patient, kidney: Kidney, cavity: np.ndarray
) -> PaintedStructure:
    """Paint perirenal fat, vessels, sinus, cortex and medulla; return the parenchyma.

    As in KiTS21, the sinus's fat and the collecting system are not kidney. The bed of a mass is
    kidney, and the mass is painted over it when labels are merged.
    """
    u, hu, half_mm = rng.uniform, patient.hu, kidney.half_mm
    region = scene.around(kidney.center, max(half_mm) + 12)
    mm, wall = scene.at(region), cavity[region]
    local = kidney.local(mm)
    bean = kidney.bean(mm) + 1.3 * scene.noise(region, 20)
    scene.paint(np.maximum(bean - u(2, 14), wall), region, hu["fat"])
    _paint_hilum(rng, scene, patient, kidney, cavity)

    # The sinus is a hollow at the hilum, filled with fat.
    hollow = np.array([0, 0, -0.55 * half_mm[2]])
    size = half_mm * u([0.4, 0.3, 0.5], [0.55, 0.42, 0.68])
    sinus = ellipsoid(local, hollow, size) + 2.2 * scene.noise(region, 10)
    scene.paint(np.maximum(sinus, bean), region, hu["fat"] + 25 + 25 * scene.noise(region, 8))
    parenchyma = np.maximum.reduce([bean, wall + 1, -sinus])
    # The pyramids: medulla below 4.5 to 7 mm of cortex, in columns along and around the sinus.
    angle = np.arctan2(local[1], local[2] + 0.5 * half_mm[2])
    columns = np.cos(2 * np.pi * local[0] / u(20, 26)) + np.cos(4 * angle)
    medulla = np.clip(-(bean + u(4.5, 7)) / 2, 0, 1) * np.clip(0.6 + 0.6 * columns, 0, 1)
    value = hu["cortex"] + (hu["medulla"] - hu["cortex"]) * medulla
    scene.paint(parenchyma, region, value + 4 * scene.noise(region, 8))
    # The collecting system lies inside the sinus and holds urine.
    pelvis = ellipsoid(local, hollow, size * u(0.3, 0.55)) + 1.5 * scene.noise(region, 9)
    scene.paint(np.maximum(pelvis, sinus + 1.5), region, hu["urine"])
    return PaintedStructure("kidney", parenchyma, region)


def _paint_hilum(
    rng: np.random.Generator, scene: Scene, patient: Patient, kidney: Kidney, cavity: np.ndarray
) -> None:
    """Paint the renal vein in front and the artery behind, from the great vessels to the hilum."""
    hilum = kidney.center - 0.5 * kidney.half_mm[2] * kidney.axes[2]
    trunk = patient.at(hilum[0] - 10, 4, 4 * kidney.side)
    middle = (hilum + trunk) / 2 + [0, -4, 0]
    path = np.stack([hilum, middle, trunk])
    for tissue, radius, shift in (("vein", (4, 6), -3.0), ("aorta", (2.5, 3.5), 4.0)):
        shifted = path + np.array([shift, shift, 0])
        paint_tube(scene, shifted, rng.uniform(*radius), patient.hu[tissue], cavity)


def paint_mass(
    rng: np.random.Generator, scene: Scene, patient: Patient, mass: Mass, cavity: np.ndarray
) -> PaintedStructure:
    """Paint a cyst or a solid tumor, clear-cell or papillary, inside the abdominal cavity."""
    hu, radius = patient.hu, mass.radius
    region = scene.around(mass.center, 1.35 * radius)
    mm, wall = scene.at(region), cavity[region]
    level = ellipsoid(mm, mass.center, radius * rng.uniform(0.9, 1.12, 3))
    lumps = (0.07 if mass.kind == "tumor" else 0.025) * radius
    level = np.maximum(level + lumps * scene.noise(region, 0.8 * radius), wall + 1)
    # Fat separates the mass from its neighbors, but not from the kidney.
    halo = np.maximum.reduce([level - rng.uniform(1, 5), 3 - mass.kidney.bean(mm), wall])
    scene.paint(halo, region, hu["fat"])
    if mass.kind == "cyst":
        # A thin wall around fluid.
        scene.paint(level, region, 50)
        scene.paint(level + rng.uniform(0.6, 1.3), region, rng.uniform(0, 18))
    else:
        _paint_tumor(rng, scene, patient, radius, level, region)
    return PaintedStructure(mass.kind, level, region)


def _paint_tumor(
    rng: np.random.Generator,
    scene: Scene,
    patient: Patient,
    radius: float,
    level: np.ndarray,
    region: Box,
) -> None:
    """Paint uneven enhancement, bright nests in clear-cell tumors, necrosis in large ones."""
    kind = "clear" if rng.random() < 0.65 else "papillary"
    base = patient.hu[kind]
    texture = 0.12 * scene.noise(region, 7) + 0.1 * scene.noise(region, 15)
    nests = np.clip(scene.noise(region, 6) - 1.2, 0, 1) * (0.6 if kind == "clear" else 0.15)
    scene.paint(level, region, base * (1 + np.clip(texture, -0.3, 0.4) + nests))
    if radius > 14 and rng.random() < 0.55:
        core = level + rng.uniform(0.35, 0.6) * radius
        core = np.maximum(core + 0.28 * radius * scene.noise(region, 0.6 * radius), level + 4)
        scene.paint(core, region, rng.uniform(18, 34) + 5 * scene.noise(region, 8))
