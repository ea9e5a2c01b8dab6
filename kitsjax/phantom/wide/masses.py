"""The wide phantom's renal masses: tumors of five kinds and cysts of three, from 5 mm."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kitsjax.phantom.kidneys import Kidney, PaintedStructure
from kitsjax.phantom.painting import ellipsoid
from kitsjax.phantom.wide.body import Body
from kitsjax.phantom.wide.kidneys import PlacedKidney
from kitsjax.types import Box

TUMOR_SHARE = {
    "clear": 0.5, "papillary": 0.17, "chromophobe": 0.13, "angiomyolipoma": 0.1, "cystic": 0.1,
}  # fmt: skip
CYST_SHARE = {"simple": 0.8, "dense": 0.1, "septated": 0.1}

TUMOR_RADIUS_MM, CYST_RADIUS_MM = (15.0, 0.65, 2.5, 55.0), (8.0, 0.65, 2.5, 45.0)
"""Median, logarithmic spread, least and largest radius."""

OUTWARD = (-1.1, 0.55)
"""A center lies so many radii outside of the kidney's surface: from endophytic to exophytic."""


class Mass(NamedTuple):
    """A tumor or cyst on a kidney.

    Attributes:
        label: "tumor" or "cyst".
        kind: a key of `TUMOR_SHARE` or `CYST_SHARE`.
        center: (z, y, x) in mm.
        radius: in mm.
        kidney: the kidney that the mass lies on.
    """

    label: str
    kind: str
    center: np.ndarray
    radius: float
    kidney: Kidney


def place_masses(body: Body, kidneys: list[PlacedKidney]) -> list[Mass]:
    """Place the tumors and cysts of a case; none overlap, but those of polycystic kidneys.

    A mass that finds no free place in 30 attempts is left out.
    """
    rng = body.rng
    masses: list[Mass] = []
    if not kidneys:
        return []
    many = body.has("polycystic")
    tumors = int(rng.geometric(0.8)) if body.has("tumors") else 0
    cysts = int(rng.integers(20, 45)) if many else int(rng.geometric(0.45)) * body.has("cysts")
    for label in ["tumor"] * tumors + ["cyst"] * cysts:
        shares = TUMOR_SHARE if label == "tumor" else CYST_SHARE
        kind = str(rng.choice(list(shares), p=list(shares.values())))
        for _ in range(30):
            kidney = kidneys[rng.integers(len(kidneys))].shape
            radius = draw_radius(rng, label)
            center = _draw_center(rng, kidney, radius)
            apart = [np.linalg.norm(center - m.center) > radius + m.radius + 2 for m in masses]
            if _fits(body, center, radius) and (many or all(apart)):
                masses.append(Mass(label, kind, center, radius, kidney))
                break
    return masses


def draw_radius(rng: np.random.Generator, label: str) -> float:
    """Draw the radius in mm of a "tumor" or a "cyst", which is log-normal within its limits."""
    median, spread, low, high = TUMOR_RADIUS_MM if label == "tumor" else CYST_RADIUS_MM
    return float(np.clip(median * np.exp(spread * rng.standard_normal()), low, high))


def _draw_center(rng: np.random.Generator, kidney: Kidney, radius: float) -> np.ndarray:
    """Draw a mass's center about the kidney's surface, seldom at the hilum."""
    # Few directions point to the hilum, whose third coordinate is negative.
    direction = rng.standard_normal(3)
    direction[2] = 0.9 * abs(direction[2]) - 0.25
    direction /= np.linalg.norm(direction)
    # The point of the ellipsoid in that direction, moved outward or inward as far as the sinus.
    distance = 1 / np.linalg.norm(direction / kidney.half_mm)
    local = direction * max(distance + radius * rng.uniform(*OUTWARD), 0.45 * distance)
    bend = kidney.bend_mm
    local[2] -= bend * min(1, (local[0] / kidney.half_mm[0]) ** 2) - bend / 3
    return kidney.center + local @ kidney.axes


def _fits(body: Body, center: np.ndarray, radius: float) -> bool:
    """Tell whether a center lies deep enough inside the cavity, and within the scan."""
    scene = body.scene
    index = [np.abs(a - c).argmin() for a, c in zip(scene.lattice, center, strict=True)]
    inside = body.cavity[tuple(index)] < -min(0.6 * radius, 12)
    spans = zip(scene.voxels, center, strict=True)
    return bool(inside and all(v[0] < c < v[-1] for v, c in spans))


def paint_masses(body: Body, masses: list[Mass]) -> list[PaintedStructure]:
    """Paint all masses; return those in view."""
    painted = [_paint_mass(body, mass) for mass in masses]
    return [structure for structure in painted if structure is not None]


def _paint_mass(body: Body, mass: Mass) -> PaintedStructure | None:
    scene, rng, radius = body.scene, body.rng, mass.radius
    region = body.around(mass.center, 1.35 * radius)
    if region is None:
        return None
    mm, wall = scene.at(region), body.cavity[region]
    level = ellipsoid(mm, mass.center, radius * rng.uniform(0.82, 1.15, 3))
    lumps = rng.uniform(0.03, 0.14) if mass.label == "tumor" else rng.uniform(0, 0.04)
    level = level + lumps * radius * scene.noise(region, max(4, 0.8 * radius))
    level = np.maximum(level, wall + 1)
    # Fat separates the mass from its neighbors, but not from the kidney.
    halo = np.maximum.reduce([level - rng.uniform(0.5, 5), 3 - mass.kidney.bean(mm), wall])
    scene.paint(halo, region, body.hu["fat"])
    PAINTERS[mass.kind](body, radius, level, region)
    return PaintedStructure(mass.label, level, region)


def _paint_solid(body: Body, radius: float, level: np.ndarray, region: Box, tissue: str) -> None:
    """Paint uneven enhancement with bright nests, necrosis in large ones, and calcified spots."""
    scene, rng, hu = body.scene, body.rng, body.hu
    u = rng.uniform
    rough = u(0.5, 1.4) * (1.3 if tissue == "clear" else 0.7)
    texture = rough * (0.12 * scene.noise(region, 6) + 0.1 * scene.noise(region, 15))
    nests = u(0, 0.6) * np.clip(scene.noise(region, 6) - 1.2, 0, 1) * (tissue == "clear")
    scene.paint(level, region, hu[tissue] * (1 + np.clip(texture, -0.35, 0.45) + nests))
    if radius > 12 and rng.random() < 0.45:
        core = level + u(0.3, 0.65) * radius
        core = np.maximum(core + 0.28 * radius * scene.noise(region, 0.6 * radius), level + 3)
        scene.paint(core, region, u(5, 34) + 5 * scene.noise(region, 8))
    if rng.random() < 0.12:
        spots = np.maximum((1.9 - scene.noise(region, 5)) * 4, level + 1)
        scene.paint(spots, region, u(200, 700))


def _paint_clear(body: Body, radius: float, level: np.ndarray, region: Box) -> None:
    _paint_solid(body, radius, level, region, "clear")


def _paint_papillary(body: Body, radius: float, level: np.ndarray, region: Box) -> None:
    _paint_solid(body, radius, level, region, "papillary")


def _paint_chromophobe(body: Body, radius: float, level: np.ndarray, region: Box) -> None:
    """Paint an even tumor, as oncocytomas are, some with a star-shaped scar in the middle."""
    _paint_solid(body, min(radius, 12), level, region, "chromophobe")
    if radius > 10 and body.rng.random() < 0.4:
        scar = np.maximum(abs(body.scene.noise(region, 7)) * 6 - 1.5, level + 0.6 * radius)
        body.scene.paint(scar, region, body.hu["tumor"])


def _paint_angiomyolipoma(body: Body, radius: float, level: np.ndarray, region: Box) -> None:
    """Paint a mixture of fat with vessels and muscle."""
    fat = np.clip(0.5 + body.rng.uniform(-0.4, 0.5) + body.scene.noise(region, 7), 0, 1)
    solid = body.hu["chromophobe"]
    body.scene.paint(level, region, solid + (body.hu["fat"] + 25 - solid) * fat)


def _paint_cystic(body: Body, radius: float, level: np.ndarray, region: Box) -> None:
    """Paint a cystic tumor: a thick enhancing wall, septa, and nodules on it."""
    scene, u = body.scene, body.rng.uniform
    scene.paint(level, region, body.hu["clear"])
    wall = u(1.5, 3) + np.clip(scene.noise(region, 9), 0, 2) * u(0.5, 3)
    septa = 2 - abs(scene.noise(region, 10)) * 9
    scene.paint(np.maximum(level + wall, septa), region, u(5, 28))


def _paint_simple(body: Body, radius: float, level: np.ndarray, region: Box) -> None:
    """Paint a thin wall around water."""
    u = body.rng.uniform
    body.scene.paint(level, region, body.hu["kidney"] + 10)
    body.scene.paint(level + u(0.3, 1.0), region, body.hu["water"] + u(-3, 5))


def _paint_dense(body: Body, radius: float, level: np.ndarray, region: Box) -> None:
    """Paint a cyst with old blood or protein."""
    body.scene.paint(level, region, body.rng.uniform(40, 90) + 2 * body.scene.noise(region, 8))


def _paint_septated(body: Body, radius: float, level: np.ndarray, region: Box) -> None:
    """Paint thin septa in a cyst, calcified in some."""
    _paint_simple(body, radius, level, region)
    u, scene = body.rng.uniform, body.scene
    septa = np.maximum(abs(scene.noise(region, max(6, 0.5 * radius))) * 8 - 0.7, level)
    scene.paint(septa, region, u(200, 600) if body.rng.random() < 0.3 else u(20, 70), 0.8)


PAINTERS: dict[str, Callable[[Body, float, np.ndarray, Box], None]] = {
    "clear": _paint_clear,
    "papillary": _paint_papillary,
    "chromophobe": _paint_chromophobe,
    "angiomyolipoma": _paint_angiomyolipoma,
    "cystic": _paint_cystic,
    "simple": _paint_simple,
    "dense": _paint_dense,
    "septated": _paint_septated,
}
"""A mass of each kind is painted by (body, radius in mm, level, lattice region)."""
