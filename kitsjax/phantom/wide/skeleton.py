"""The wide phantom's bones: spine, ribs, breastbone, and the pelvis with the hips."""

import numpy as np

from kitsjax.phantom.painting import ellipsoid, tube
from kitsjax.phantom.wide.body import Body


def paint_skeleton(body: Body) -> None:
    """Paint all bones, and the spine's screws of a patient with metal in some cases."""
    _paint_spine(body)
    _paint_ribs(body)
    _paint_sternum(body)
    _paint_pelvis(body)
    _paint_hips(body)


def _bone(body: Body, level: np.ndarray, region: tuple[slice, slice, slice], mm: float) -> None:
    """Paint a bone: a cortex `mm` thick around marrow."""
    scene, hu = body.scene, body.hu
    scene.paint(level, region, hu["cortical"])
    scene.paint(level + mm, region, hu["marrow"] + 0.15 * hu["marrow"] * scene.noise(region, 7))


def _paint_spine(body: Body) -> None:
    """Paint waisted vertebral bodies with disks between them, arches, processes and the canal."""
    rng, scene, hu = body.rng, body.scene, body.hu
    y0 = body.patient.spine_y_mm
    region = body.around(np.array([0, y0 + 25, 0]), np.array([1e4, 52, 44]))
    if region is None:
        return
    z, y, x = mm = scene.at(region)
    # A vertebra and its disk repeat every `height` mm; `along` runs from a vertebra's middle.
    height = rng.uniform(28, 39)
    along = (z + rng.uniform(0, height)) % height - height / 2
    disk = height / 2 - rng.uniform(2.5, 5.5) - abs(along)
    size = rng.uniform(0.85, 1.1)
    radii = (1e4, 17 * size, 22 * size)
    body_level = ellipsoid(mm, (0, y0, 0), radii, 2.4) + 2.5 * np.cos(2 * np.pi * along / height)
    # In some patients the rims of the bodies are dense and grow outward.
    spur = rng.uniform(0, 4) * np.exp(-((disk / 3) ** 2)) * (scene.noise(region, 14) > 0.3)
    edge = np.where(disk < 0, rng.uniform(60, 110), hu["cortical"] - rng.uniform(0, 120))
    scene.paint(body_level - spur, region, edge)
    inside = np.maximum(body_level + 2.5, 1.5 - disk)
    scene.paint(inside, region, hu["marrow"] * (1 + 0.2 * scene.noise(region, 6)))
    arch = np.hypot(x, y - y0 - 28) - 14
    transverse = np.maximum(np.hypot(abs(along) - 2, y - y0 - 26) - 6, abs(x) - 38)
    spinous = np.hypot(np.maximum(abs(along) - 8, 0), x) - 3.5
    spinous = np.maximum(spinous, abs(y - y0 - 52) - 18)
    _bone(body, np.minimum.reduce([arch, transverse, spinous]), region, 2.5)
    scene.paint(np.hypot(x, y - y0 - 28) - 9, region, 22 + 8 * scene.noise(region, 8))


def _paint_ribs(body: Body) -> None:
    """Paint ribs in the wall, falling as they go around; none in front or below the twelfth."""
    rng, scene, full = body.rng, body.scene, body.scene.everywhere
    z, y, x = scene.mm
    # The angle around the body is 0 at the back. Ribs repeat about every 28 mm.
    angle = np.arctan2(abs(x), y - body.patient.spine_y_mm + 10)
    fall = z - rng.uniform(40, 65) * angle
    apart = rng.uniform(24, 31)
    across = (fall + rng.uniform(0, apart)) % apart - apart / 2
    depth = min(6.0, 0.5 * body.patient.wall_mm)
    thick, wide = rng.uniform(3.2, 4.6), rng.uniform(5.2, 7)
    rib = (np.hypot((body.muscle + depth) / thick, across / wide) - 1) * thick
    lowest = rng.uniform(35, 75)
    rib = np.maximum.reduce([rib, fall + lowest, 30 - abs(x), 20 * angle - 44])
    _bone(body, rib, full, rng.uniform(1.2, 2.2))
    # Their cartilage, nearer to the middle in front.
    front = np.maximum.reduce([
        np.hypot((body.muscle + depth) / 5, across / 6) - 1, fall + lowest + 20, 44 - 20 * angle,
        25 - abs(x),
    ])  # fmt: skip
    scene.paint(4 * front, full, rng.uniform(70, 140))


def _paint_sternum(body: Body) -> None:
    """Paint the breastbone in front of the chest."""
    region = body.around(np.array([-260, -body.patient.half_y_mm, 0]), np.array([130, 70, 40]))
    if region is not None:
        z, _, x = body.scene.at(region)
        level = np.maximum(abs(body.muscle[region] + 8) - 6, abs(x) - 18)
        _bone(body, np.maximum(level, z + 150 * body.patient.tall), region, 1.8)


def _paint_pelvis(body: Body) -> None:
    """Paint the iliac wings beside the pelvis's cavity and the sacrum behind it."""
    rng, scene, tall = body.rng, body.scene, body.patient.tall
    spine_y, scale = body.patient.spine_y_mm, body.patient.half_x_mm / 165
    region = body.around(np.array([190 * tall, 20, 0]), np.array([110, 110, 165]))
    if region is None:
        return
    z, y, x = scene.at(region)
    z = z / tall
    # Each wing is a curved plate: its middle moves inward and forward going down.
    out = (118 - 0.42 * (z - 110) - 0.35 * np.clip(y - 10, 0, 90)) * scale
    plate = abs(abs(x) - out) - rng.uniform(3.5, 6)
    crest = np.hypot((z - 205) / 1.05, (y - 25) / 0.85) - 95
    wing = np.maximum.reduce([plate, crest, z - 235, 38 - abs(x)])
    back = spine_y + 12 + 0.22 * (z - 130)
    wide = np.clip(52 - 0.45 * (z - 130), 10, 60)
    sacrum = (np.hypot(x / wide, (y - back) / 17) - 1) * 15
    sacrum = np.maximum.reduce([sacrum, 128 - z, z - 245])
    _bone(body, wing, region, 1.8)
    _bone(body, sacrum, region, 1.8)


def _paint_hips(body: Body) -> None:
    """Paint the sockets, the heads and shafts of the thigh bones, and the pubic bones."""
    scene, patient = body.scene, body.patient
    scale = patient.half_x_mm / 165
    for side in (-1, 1):
        head = np.array([248 * patient.tall, 0, 90 * side * scale])
        region = body.around(head + np.array([40, -10, 5 * side]), np.array([90, 60, 75]))
        if region is None:
            continue
        mm = scene.at(region)
        ball = ellipsoid(mm, head, (24, 24, 24), 2)
        # The socket is open outward and below.
        outside = (mm[2] - head[2]) * side + 0.6 * (mm[0] - head[0])
        socket = np.maximum(abs(ball - 7) - 4, outside - 12)
        _bone(body, socket, region, 1.5)
        pubis = head + np.array([[20, -8, -25 * side], [38, -38, -82 * scale * side]])
        ischium = head + np.array([[15, 20, -12 * side], [55, 22, -20 * side]])
        neck = head + np.array([[0, 0, 0], [32, 6, 38 * side]])
        shaft = head + np.array([[25, 8, 42 * side], [200, 5, 30 * side]])
        parts = [tube(mm, p, r) for p, r in ((pubis, 8), (ischium, 11), (neck, 14), (shaft, 15))]
        _bone(body, np.minimum.reduce([ball, *parts]), region, 2.2)
