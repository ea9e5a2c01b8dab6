"""The wide phantom's trunk, from the shoulders to the thighs: skin, fat, muscle, cavities, arms."""

import numpy as np

from kitsjax.phantom.painting import Scene, ellipsoid
from kitsjax.phantom.wide.body import Body
from kitsjax.phantom.wide.patient import WidePatient

SKIN_HU = 20.0

WIDTH_AT_MM = (-380, -300, -120, 30, 200, 330)
"""The trunk's width is given at these z, in mm, and interpolated between them."""

PELVIS_AT_MM = (90, 120, 160, 210, 255, 290)
PELVIS_HALF_WIDTH_MM = (260, 135, 122, 84, 60, 30)
"""Half width of the pelvis's cavity at those z: it narrows from the iliac crests to its floor."""


def paint_trunk(rng: np.random.Generator, scene: Scene, patient: WidePatient) -> Body:
    """Paint skin, fat and muscle, and fill the cavities with fat and lungs."""
    hu, full = patient.hu, scene.everywhere
    skin, ring = _outline(scene, patient)
    # Fat under the skin is thickest at the back of the hips.
    thick = patient.fat_mm * (1 + 0.25 * scene.noise(full, 70))
    muscle = skin + np.maximum(thick * (0.85 + 0.002 * np.clip(scene.mm[0], -150, 200)), 3)
    walls = _walls(scene, patient, muscle)
    cavity, chest = _divide(rng, scene, patient, walls, ring)
    scene.paint(skin, full, SKIN_HU)
    scene.paint(skin + rng.uniform(1, 3), full, hu["fat"] + 5 * scene.noise(full, 12))
    marbling = rng.uniform(20, 90) * np.clip(scene.noise(full, 7) - 1, 0, 1)
    scene.paint(muscle, full, hu["muscle"] + 6 * scene.noise(full, 9) - marbling)
    _paint_fascias(rng, scene, patient, muscle)
    scene.paint(walls, full, hu["fat"] + rng.uniform(4, 12) * scene.noise(full, 12))
    body = Body(rng, scene, patient, muscle, cavity, chest)
    if body.has("arms"):
        _paint_arms(body)
    return body


def _outline(scene: Scene, patient: WidePatient) -> tuple[np.ndarray, np.ndarray]:
    """Return the level of the skin, and a superellipse with a flattened back that is 1 on it."""
    z, y, x = scene.mm
    wide = np.array([1.16, 1.04, 1.0, patient.waist, patient.hips, patient.hips])
    width = np.interp(scene.lattice[0], np.array(WIDTH_AT_MM) * patient.tall, wide)
    depth = np.interp(scene.lattice[0], (-380, -300, -120, 330), (0.72, 0.88, 1, 0.95))
    half_x = (patient.half_x_mm * width).astype(np.float32)[:, None, None]
    half_y = (patient.half_y_mm * depth).astype(np.float32)[:, None, None]
    flat = np.where(y > 0, 1.1 * y, y / patient.belly)
    power = patient.roundness
    ring = (abs(x / half_x) ** power + abs(flat / half_y) ** power) ** (1 / power)
    # Below the trunk there are two thighs with a gap between them.
    gap = np.minimum(z - 290 * patient.tall, 12) - abs(x)
    skin = np.hypot(x, y) * (1 - 1 / np.maximum(ring, 1e-3))
    return np.maximum(skin, gap), ring


def _walls(scene: Scene, patient: WidePatient, muscle: np.ndarray) -> np.ndarray:
    """Return the level of everything inside the wall, the spine and the muscles beside it."""
    z, y, x = scene.mm
    spine_y, tall = patient.spine_y_mm, patient.tall
    # The muscles along the spine; psoas and the square muscle of the loin grow downward.
    strong = patient.wall_mm / 13
    erector = ellipsoid(scene.mm, (0, spine_y + 44, 0), (1e4, 32, 58 + 6 * strong), 2.8)
    bulk = np.clip((12 + 0.07 * z) * strong, 4, 26)
    psoas = np.hypot(abs(x) - 22 - 0.85 * bulk, (y - spine_y - 3) / 1.25) - bulk
    psoas = np.where(z < -70 * tall, 20, psoas)
    loin = np.hypot((abs(x) - 62) / 1.3, y - spine_y - 24) - np.clip(0.15 * z + 8, -5, 14)
    vertebra = ellipsoid(scene.mm, (0, spine_y, 0), (1e4, 20, 25), 2.4)
    # The wall is thin in front, and thicker where ribs are.
    wall = patient.wall_mm * (1 - 0.45 * (y < 0) * np.exp(-((x / 70) ** 2)))
    floor = np.interp(scene.lattice[0], np.array(PELVIS_AT_MM) * tall, PELVIS_HALF_WIDTH_MM)
    half = (floor * (0.5 + 0.5 * patient.half_x_mm / 165)).astype(np.float32)[:, None, None]
    pelvis = (np.hypot(x / half, (y + 8) / (0.95 * half)) - 1) * half
    # In front, the pelvis is open upward and the belly's wall bounds it.
    pelvis = np.where((y < -10) & (z < 215 * tall), -20, pelvis)
    return np.maximum.reduce([muscle + wall, -erector, -psoas, -loin, -vertebra, pelvis])


def _divide(
    rng: np.random.Generator,
    scene: Scene,
    patient: WidePatient,
    walls: np.ndarray,
    ring: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the inside at the diaphragm: return the abdominal and the chest's cavity."""
    z, y, x = scene.mm
    # Two domes, the right one higher; they fall toward the wall, most of all at the back.
    steep = rng.uniform(70, 150) * (1 + 0.6 * (y > 0))
    high = rng.uniform(-165, -110) * patient.tall + rng.uniform(0, 20) * (x > 0)
    dome = high + steep * np.clip(ring - 0.3, 0, 1) ** 2 + 12 * np.exp(-((x / 30) ** 2))
    return np.maximum(walls, dome - z), np.maximum(walls, z - dome + 2)


def _paint_fascias(
    rng: np.random.Generator, scene: Scene, patient: WidePatient, muscle: np.ndarray
) -> None:
    """Paint thin layers of fat between the muscles of the back, the wall and the buttocks."""
    full, z = scene.everywhere, scene.mm[0]
    erector = ellipsoid(scene.mm, (0, patient.spine_y_mm + 44, 0), (1e4, 32, 62), 2.8)
    layers = [erector, muscle + 0.5 * patient.wall_mm]
    # Between the muscles of hip and thigh, sheets that a random field bends.
    sheets = abs(scene.noise(full, 32)) * 22
    layers.append(np.where(z > 120 * patient.tall, sheets, 9))
    for layer in layers:
        # Thinner than the lattice they would be dotted, so faint ones stand for thin ones.
        sheet = np.maximum(abs(layer) - rng.uniform(1.4, 2.4), muscle + 3)
        scene.paint(sheet, full, patient.hu["fat"], rng.uniform(0.15, 0.6))


def _paint_arms(body: Body) -> None:
    """Paint an arm on either side of the trunk: skin, fat, muscle and the bone."""
    rng, scene, hu, patient = body.rng, body.scene, body.hu, body.patient
    for side in (-1, 1):
        radius = rng.uniform(32, 50)
        x = side * (patient.half_x_mm * 1.05 + radius + rng.uniform(2, 25))
        center = np.array([0, rng.uniform(-20, 50), x])
        layers = ((0, SKIN_HU), (2, hu["fat"]), (rng.uniform(5, 14), hu["muscle"]))
        bone = radius - 12
        for inward, value in (*layers, (bone, hu["cortical"]), (bone + 4, hu["marrow"])):
            half = radius - inward
            region = body.around(center, np.array([1e4, radius, radius]))
            if region is not None:
                tilted = ellipsoid(scene.at(region), center, (1e4, half, 0.85 * half))
                scene.paint(tilted, region, value)
