"""The wide phantom's gut: stomach, duodenum, small bowel, colon and rectum."""

import numpy as np

from kitsjax.phantom.painting import tube
from kitsjax.phantom.wide.body import Body

GAS_HU = -970.0

COLON = (
    ((10, -10, -108), (60, -2, -116), (150, 4, -112)),
    ((-45, 8, 118), (20, 14, 124), (150, 10, 122)),
    ((10, -35, -98), (30, -72, -40), (25, -74, 40), (-35, -45, 105)),
    ((150, 10, 122), (190, -20, 80), (180, -40, 20), (215, 30, 0), (275, 42, 0)),
)
"""Ascending, descending and transverse colon, and from the sigmoid to the rectum."""


def paint_bowel(body: Body) -> None:
    """Paint all loops of the gut: an enhancing wall around fluid, stool, contrast, food or gas."""
    rng, at = body.rng, body.patient.at
    u = rng.uniform
    for path in COLON:
        moved = body.path(*path) + u(-8, 8, 3)
        _paint_loop(body, moved, u(11, 24), ("stool", "gas", "fluid"), (0.6, 0.25, 0.15))
    # The more fat, the fewer and thinner loops fill the belly.
    lean = 1 - body.patient.fatness
    for _ in range(int(rng.integers(50, 70) + 25 * lean)):
        # A third of the loops, the jejunum, lie at the upper left.
        start = at(u(-35, 220), u(-82, -8), u(-100, 100))
        if rng.random() < 0.33:
            start = at(u(-70, 60), u(-78, -2), u(5, 115))
        elif start[0] > 140:
            start[2] *= 0.6
        bends = np.cumsum([u(-38, 38, 3), u(-38, 38, 3)], 0)
        loop = np.vstack([start, start + bends])
        _paint_loop(body, loop, u(6, 11) + 3 * lean, ("fluid", "wall", "gas"), (0.55, 0.3, 0.15))
    duodenum = body.path((-25, -20, -38), (5, -8, -52), (42, -8, -46), (50, -8, 0), (20, -20, 30))
    _paint_loop(body, duodenum, u(9, 15), ("fluid", "wall", "gas"), (0.5, 0.3, 0.2))
    stomach = body.path((-125, 0, 55), (-85, -35, 65), (-45, -62, 45), (-28, -50, -20))
    _paint_loop(body, stomach, u(14, 36), ("fluid", "food", "gas"), (0.4, 0.4, 0.2))


def _paint_loop(
    body: Body,
    path: np.ndarray,
    radius: float,
    fillings: tuple[str, ...],
    shares: tuple[float, ...],
) -> None:
    """Paint a loop of gut along a path (points, 3) with one of the fillings."""
    rng, scene = body.rng, body.scene
    u = rng.uniform
    filling, wall_mm = str(rng.choice(fillings, p=shares)), u(1.5, 4)
    hu = u(-5, 40)
    if body.has("oral contrast") and filling in ("fluid", "food") and rng.random() < 0.5:
        hu = u(120, 600)
    region = body.around((path.max(0) + path.min(0)) / 2, np.ptp(path, 0) / 2 + radius)
    if region is None:
        return
    mm = scene.at(region)
    level = tube(mm, path, radius) + 0.16 * radius * scene.noise(region, 14)
    level = np.maximum(level, body.cavity[region] + 1)
    scene.paint(level, region, body.hu["bowel"] + 6 * scene.noise(region, 8))
    inside = level + (radius if filling == "wall" else wall_mm)
    if filling in ("stool", "food"):
        # A crumbly mixture with bubbles of gas.
        crumbs = u(20, 70) * scene.noise(region, 6)
        bubbles = np.clip(scene.noise(region, 5) - u(0.3, 1.5), 0, 1) * u(-900, -200)
        scene.paint(inside, region, hu + crumbs + bubbles)
    elif filling != "wall":
        scene.paint(inside, region, hu + 4 * scene.noise(region, 7))
    if filling == "gas" or (filling != "wall" and rng.random() < 0.3):
        # Gas rises to the front of a patient who lies on the back.
        height = -radius if filling == "gas" else u(-0.5, 0.6) * radius
        above = mm[1] - path[:, 1].mean() + height
        scene.paint(np.maximum(inside, above), region, GAS_HU)
