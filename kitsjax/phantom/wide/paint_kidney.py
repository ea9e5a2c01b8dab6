"""A kidney of the wide phantom: fat around it, vessels, sinus, parenchyma, urine, stones, a stent.

The label follows the experts of KiTS: the sinus's fat and a dilated collecting system are not
kidney, but vessels and calyces between its pyramids are.
"""

import numpy as np

from kitsjax.phantom.kidneys import PaintedStructure
from kitsjax.phantom.painting import ellipsoid, tube
from kitsjax.phantom.wide.body import Body
from kitsjax.phantom.wide.kidneys import PlacedKidney
from kitsjax.types import Box

SINUS_MARGIN_MM = 2.0
"""Experts do not follow the sinus into clefts that are narrower than twice this."""


def paint_kidneys(body: Body, kidneys: list[PlacedKidney]) -> list[PaintedStructure]:
    """Paint every kidney, and the bridge of a horseshoe kidney; return those in view."""
    painted = [_paint_one(body, kidney) for kidney in kidneys]
    if len(kidneys) == 2 and body.has("horseshoe"):
        painted.append(_paint_isthmus(body, kidneys))
    return [structure for structure in painted if structure is not None]


def _paint_one(body: Body, kidney: PlacedKidney) -> PaintedStructure | None:
    shape, scene, hu, u = kidney.shape, body.scene, body.hu, body.rng.uniform
    region = body.around(shape.center, max(shape.half_mm) + 14)
    if region is None:
        return None
    mm, wall = scene.at(region), body.cavity[region]
    lobed = u(0.5, 2.2) * scene.noise(region, u(14, 24))
    bean = shape.bean(mm) + lobed
    _paint_surroundings(body, bean, wall, region)
    _paint_hilum(body, kidney)

    local = shape.local(mm)
    sinus, hollows = _make_sinus(body, kidney, local)
    sinus = sinus + u(1, 2.5) * scene.noise(region, 10)
    fill = hu["fat"] + u(5, 45) + 20 * scene.noise(region, 8)
    scene.paint(np.maximum(sinus, bean), region, fill)
    outer = np.maximum(bean, wall + 1)
    scene.paint(
        np.maximum(outer, -sinus), region, _parenchyma_hu(body, kidney, local, bean, region)
    )
    urine = _make_urine(body, kidney, local, hollows)
    if "hydronephrosis" not in kidney.traits:
        urine = np.maximum(urine, sinus + 0.5)
    urine = np.maximum(urine, bean + 2)
    excluded = sinus + SINUS_MARGIN_MM
    if "hydronephrosis" in kidney.traits:
        excluded = np.minimum(excluded, urine)
    if "extrarenal pelvis" in kidney.traits:
        # It displaces the fat at the hilum, and no parenchyma.
        wide = _make_extrarenal_pelvis(body, kidney, local)
        pelvis = np.maximum.reduce([wide, -np.maximum(bean, -sinus), wall + 1])
        scene.paint(pelvis - u(0.4, 1.2), region, hu["muscle"])
        urine, excluded = np.minimum(urine, pelvis), np.minimum(excluded, pelvis)
    scene.paint(urine, region, hu["urine"])
    _paint_stones(body, kidney, hollows)
    _paint_ureter(body, kidney)
    return PaintedStructure("kidney", np.maximum(outer, -excluded), region)


def _paint_surroundings(body: Body, bean: np.ndarray, wall: np.ndarray, region: Box) -> None:
    """Paint the fat around a kidney, from none to thick, its fascia, and strands in it."""
    scene, hu, u = body.scene, body.hu, body.rng.uniform
    thick = u(0, 4) + 24 * body.patient.fatness * u(0.2, 1)
    bed = np.maximum(bean - thick * (1 + 0.3 * scene.noise(region, 25)), wall)
    scene.paint(bed, region, hu["fat"] + 5 * scene.noise(region, 10))
    if thick > 6:
        # Thinner than the lattice it would be dotted, so a faint one stands for a thin one.
        fascia = np.maximum(abs(bed + 2) - u(1.3, 1.8), wall + 2)
        scene.paint(fascia, region, hu["muscle"], u(0.1, 0.4))
    if body.has("stranding"):
        strands = np.maximum(abs(scene.noise(region, 9)) * 9 - 1.6, bed + 1)
        scene.paint(strands, region, u(-20, 30), u(0.15, 0.5))


def _paint_hilum(body: Body, kidney: PlacedKidney) -> None:
    """Paint the renal vein in front and one or two arteries behind, from the great vessels."""
    shape, u = kidney.shape, body.rng.uniform
    hilum = shape.center - 0.45 * shape.half_mm[2] * shape.axes[2]
    trunk = np.array([hilum[0] - u(0, 18), *body.patient.at(0, 4, 4 * shape.side)[1:]])
    path = np.stack([hilum, (hilum + trunk) / 2 + u(-8, 4, 3), trunk])
    body.tube(path + np.array([-3, -4, 0]), u(3.2, 6.5), body.hu["vein"])
    for _ in range(1 + int(body.rng.random() < 0.3)):
        body.tube(path + np.array([u(-4, 8), u(1, 5), 0]), u(1.8, 3.4), body.hu["aorta"])


def _make_sinus(
    body: Body, kidney: PlacedKidney, local: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the level of the sinus, and the local centers of its one or two hollows."""
    u, half = body.rng.uniform, kidney.shape.half_mm
    size = half * u([0.36, 0.26, 0.45], [0.56, 0.42, 0.68])
    if {"sinus lipomatosis", "atrophy"} & kidney.traits:
        size *= u(1.05, 1.3)
    if "hydronephrosis" in kidney.traits:
        size *= u(1.0, 1.25)
    middle = np.array([0, 0, -u(0.45, 0.65) * half[2]])
    if "duplicated" not in kidney.traits:
        return ellipsoid(local, middle, size), [middle]
    apart, size = np.array([0.42 * half[0], 0, 0]), size * np.array([0.55, 0.95, 0.95])
    hollows = [middle - apart, middle + apart]
    return np.minimum(*(ellipsoid(local, hollow, size) for hollow in hollows)), hollows


def _parenchyma_hu(
    body: Body, kidney: PlacedKidney, local: np.ndarray, bean: np.ndarray, region: Box
) -> np.ndarray:
    """Return the HU of the cortex, and of the pyramids below it in columns around the sinus."""
    u, half, hu, scene = body.rng.uniform, kidney.shape.half_mm, body.hu, body.scene
    angle = np.arctan2(local[1], local[2] + 0.5 * half[2])
    columns = np.cos(2 * np.pi * local[0] / u(17, 27)) + np.cos(u(3, 5) * angle)
    columns = columns + 0.4 * scene.noise(region, 9)
    depth = np.clip(-(bean + u(3.5, 7.5)) / 2, 0, 1)
    medulla = depth * np.clip(u(0.4, 0.8) + 0.6 * columns, 0, 1)
    value = hu["cortex"] + (hu["medulla"] - hu["cortex"]) * medulla
    # Scars and infarcts are dark wedges of the cortex.
    if body.rng.random() < 0.12:
        wedge = np.clip(scene.noise(region, 16) - 1.2, 0, 1)
        value = value - 0.5 * wedge * (hu["cortex"] - hu["kidney"])
    # Real kidneys are more uneven than their noise: perfusion, and hardened beams.
    return value + u(2, 8) * scene.noise(region, 8) + u(0, 6) * scene.noise(region, 22)


def _make_urine(
    body: Body, kidney: PlacedKidney, local: np.ndarray, hollows: list[np.ndarray]
) -> np.ndarray:
    """Return the level of the collecting system: a pelvis and calyces that reach the pyramids."""
    u, half = body.rng.uniform, kidney.shape.half_mm
    wide = "hydronephrosis" in kidney.traits
    pelvis = u(0.26, 0.42) if wide else u(0.08, 0.24)
    calyx = u(4, 8) if wide else u(0.8, 2.5)
    parts = []
    for hollow in hollows:
        parts.append(ellipsoid(local, hollow, pelvis * half * np.array([1, 0.9, 1.2])))
        for share in (-0.55, -0.2, 0.2, 0.55):
            tip = hollow + half * np.array([share, u(-0.3, 0.3), u(0.35, 0.7)])
            parts.append(tube(local, np.stack([hollow, tip]), calyx))
    return np.minimum.reduce(parts)


def _make_extrarenal_pelvis(body: Body, kidney: PlacedKidney, local: np.ndarray) -> np.ndarray:
    """Return the level of a renal pelvis that lies in front of the hilum, outside of the kidney."""
    u, half = body.rng.uniform, kidney.shape.half_mm
    size = u([9, 7, 9], [24, 16, 22]) * (u(1.0, 1.3) if "hydronephrosis" in kidney.traits else 1)
    middle = np.array([u(-4, 10), u(-4, 4), -half[2] * u(0.7, 1.0) - 0.3 * size[2]])
    return ellipsoid(local, middle, size)


def _paint_stones(body: Body, kidney: PlacedKidney, hollows: list[np.ndarray]) -> None:
    """Paint stones of 2 to 20 mm in the calyces of a kidney that has them."""
    if "stones" not in kidney.traits:
        return
    u, shape = body.rng.uniform, kidney.shape
    for _ in range(int(body.rng.integers(1, 5))):
        local = hollows[0] + shape.half_mm * u([-0.5, -0.2, 0], [0.5, 0.2, 0.5])
        radius = float(np.clip(2.2 * np.exp(0.6 * body.rng.standard_normal()), 1, 10))
        place = shape.center + local @ shape.axes
        body.organ(place, tuple(radius * u(0.7, 1.3, 3)), u(300, 1500), 0.3, 0)


def _paint_ureter(body: Body, kidney: PlacedKidney) -> None:
    """Paint the ureter down to the bladder, and a stent in it from the kidney's pelvis."""
    u, shape = body.rng.uniform, kidney.shape
    hilum = shape.center - 0.75 * shape.half_mm[2] * shape.axes[2]
    below = hilum + np.array([25, -2, -10 * shape.side])
    course = [(80, 2, 40), (150, 8, 42), (225, 5, 40), (240, -20, 12)]
    way = body.path(*((z, y, x * shape.side) for z, y, x in course))
    way = np.vstack([hilum, below, way[way[:, 0] > hilum[0] + 40]])
    width = u(3, 6) if "hydronephrosis" in kidney.traits else u(1.0, 2.4)
    body.tube(way, width + 0.8, body.hu["muscle"])
    body.tube(way, width, body.hu["urine"])
    if "stent" in kidney.traits:
        inner = shape.center - 0.3 * shape.half_mm[2] * shape.axes[2]
        curl = inner + np.array([[-8, 0, 0], [0, 0, 6], [8, 0, 0]])
        body.tube(np.vstack([curl, way]), u(0.9, 1.4), u(800, 2500))


def _paint_isthmus(body: Body, kidneys: list[PlacedKidney]) -> PaintedStructure | None:
    """Paint the bridge between the lower poles of a horseshoe kidney, in front of the aorta."""
    u = body.rng.uniform
    poles = [k.shape.center + 0.8 * k.shape.half_mm[0] * k.shape.axes[0] for k in kidneys]
    middle = (poles[0] + poles[1]) / 2 + np.array([u(0, 10), -14, 0])
    path = np.stack([poles[0], middle, poles[1]])
    region = body.around(middle, np.ptp(path, 0) / 2 + 22)
    if region is None:
        return None
    level = tube(body.scene.at(region), path, u(8, 15)) + 1.5 * body.scene.noise(region, 14)
    level = np.maximum(level, body.cavity[region] + 1)
    body.scene.paint(level - u(1, 5), region, body.hu["fat"])
    value = 0.6 * body.hu["cortex"] + 0.4 * body.hu["medulla"]
    body.scene.paint(level, region, value + 5 * body.scene.noise(region, 8))
    return PaintedStructure("kidney", level, region)
