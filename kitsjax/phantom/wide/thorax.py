"""The wide phantom's chest: lungs with vessels, the heart, great vessels, and fluid at the base."""

import numpy as np

from kitsjax.phantom.painting import ellipsoid
from kitsjax.phantom.wide.body import Body


def paint_thorax(body: Body) -> None:
    """Paint what lies above the diaphragm."""
    scene, hu, full = body.scene, body.hu, body.scene.everywhere
    if not (body.chest < 0).any():
        return
    rng = body.rng
    _, y, x = scene.mm
    heart_half = rng.uniform(48, 66)
    front = body.patient.spine_y_mm - 35
    middle = np.hypot(x - 5, (y - front) / 2.2) - rng.uniform(26, 36)
    lung = np.maximum(body.chest, -middle)
    scene.paint(lung, full, hu["lung"] + 50 * scene.noise(full, 9))
    # Vessels of the lung: where a fine random field is high.
    vessels = np.maximum((1.4 - scene.noise(full, 6)) * 5, lung + 3)
    scene.paint(vessels, full, 30, rng.uniform(0.5, 1))
    if body.has("effusion"):
        paint_effusion(body, lung)
    _paint_heart(body, heart_half)
    within = body.chest
    for path, radius, tissue in (
        (body.path((-60, 8, 10), (-280, 22, 18), (-330, 0, 12)), (9, 15), "aorta"),
        (
            body.path((-330, 0, 12), (-335, -25, 0), (-290, -40, -8), (-230, -25, 0)),
            (11, 17),
            "aorta",
        ),
        (body.path((-250, -25, -28), (-390, -15, -26)), (7, 11), "vein"),
        (body.path((-270, -10, -55), (-285, -12, 0), (-270, -8, 55)), (9, 13), "vein"),
    ):
        body.tube(path, rng.uniform(*radius), hu[tissue], within)
    trachea = body.path((-400, 0, 0), (-290, 12, 0), (-250, 15, 35))
    body.tube(trachea, rng.uniform(7, 10), -980, within)
    esophagus = body.path((-390, 18, 4), (-200, 18, 8), (-120, -2, 18))
    body.tube(esophagus, rng.uniform(5, 9), hu["bowel"], within)


def paint_effusion(body: Body, lung: np.ndarray) -> None:
    """Paint fluid at the back of one lung or of both, with the collapsed lung on it.

    Args:
        body: its random numbers choose level, side and HU.
        lung: distance to the surface of both lungs (z, y, x), mm; below 0 within.
    """
    rng, (_, y, x) = body.rng, body.scene.mm
    level = body.patient.half_y_mm * rng.uniform(-0.1, 0.6)
    side = -x if rng.random() < 0.5 else np.full_like(x, -np.inf)
    for shift, value in ((-12, body.hu["muscle"] + 40), (0, rng.uniform(0, 25))):
        inside = np.maximum.reduce([lung, level + shift - y, side])
        body.scene.paint(inside, body.scene.everywhere, value)


def _paint_heart(body: Body, half_mm: float) -> None:
    """Paint the heart's muscle and four chambers, with fat around."""
    scene, hu, rng = body.scene, body.hu, body.rng
    lowest = -150 * body.patient.tall
    center = np.array([lowest - 0.6 * half_mm, -32 * body.patient.half_y_mm / 115, 22])
    reach = np.array([half_mm, half_mm, 1.25 * half_mm])
    region = body.around(center, reach + 8)
    if region is None:
        return
    wall = body.chest[region]
    whole = ellipsoid(scene.at(region), center, reach, 2.1) + 3 * scene.noise(region, 25)
    scene.paint(np.maximum(whole - rng.uniform(2, 10), wall), region, hu["fat"])
    scene.paint(np.maximum(whole, wall), region, hu["muscle"] + 0.35 * (hu["aorta"] - hu["blood"]))
    for place, size, tissue in (
        ((0.1, 0.1, 0.45), 0.38, "aorta"), ((0.15, -0.35, -0.1), 0.36, "vein"),
        ((-0.35, 0.4, 0.0), 0.36, "aorta"), ((-0.2, -0.05, -0.6), 0.36, "vein"),
    ):  # fmt: skip
        chamber = center + np.array(place) * reach
        level = ellipsoid(scene.at(region), chamber, size * reach * rng.uniform(0.85, 1.15, 3), 2)
        scene.paint(np.maximum(level, whole + 4), region, hu[tissue])
