"""The wide phantom's solid organs: liver, spleen, gallbladder, pancreas, adrenals and nodes."""

import numpy as np

from kitsjax.phantom.painting import ellipsoid, tube
from kitsjax.phantom.wide.body import Body


def paint_organs(body: Body) -> None:
    """Paint the solid organs of the abdomen, and what looks like a kidney or a mass among them."""
    _paint_pancreas(body)
    _paint_liver(body)
    _paint_spleen(body)
    _paint_gallbladder(body)
    for side in (-1, 1):
        _paint_adrenal(body, side)
    if body.has("lymph nodes"):
        for _ in range(int(body.rng.integers(3, 12))):
            u = body.rng.uniform
            body.organ(
                body.patient.at(u(-60, 90), u(-12, 8), u(-38, 38)), tuple(u(3, 12, 3)),
                body.hu["muscle"] + u(0, 40), 1, 4,
            )  # fmt: skip
    if body.has("ascites"):
        _paint_ascites(body)


def _paint_liver(body: Body) -> None:
    """Paint one liver of two lobes and often a tip beside the kidney, its vessels and lesions."""
    rng, scene, hu, at = body.rng, body.scene, body.hu, body.patient.at
    u = rng.uniform
    lobes = [
        (at(-75 + u(-10, 15), -10, -88), (u(75, 115), 82, u(72, 90))),
        (at(-105, -52, u(-25, 10)), (u(30, 50), u(30, 42), u(55, 85))),
    ]
    if body.has("liver tip"):
        lobes.append((at(u(20, 70), 5, -122), (u(40, 70), u(25, 45), u(16, 28))))
    region = body.around(at(-60, -15, -70), np.array([180, 110, 160]))
    if region is None:
        return
    mm, wall = scene.at(region), body.cavity[region]
    level = np.minimum.reduce([ellipsoid(mm, c, r, 2.2) for c, r in lobes])
    level = np.maximum(level + 4 * scene.noise(region, 30), wall + 1)
    scene.paint(level - 2, region, hu["fat"])
    scene.paint(level, region, hu["liver"] + u(1, 5) * scene.noise(region, 9))
    inside = body.cavity.copy()
    inside[region] = level
    for _ in range(8):
        start, end = at(-70, -15, -45), at(u(-140, -10), u(-60, 40), u(-135, -20))
        path = np.array([start, (start + end) / 2 + u(-10, 10, 3), end])
        body.tube(path, u(2, 5), hu[str(rng.choice(["portal", "vein"]))], inside)
    if body.has("liver lesions"):
        for _ in range(int(rng.integers(1, 7))):
            size = float(np.clip(8 * np.exp(0.6 * rng.standard_normal()), 3, 40))
            kind = rng.choice(["cyst", "metastasis", "bright"])
            value = {
                "cyst": hu["water"], "metastasis": 0.7 * hu["liver"], "bright": hu["liver"] + 40,
            }[kind]  # fmt: skip
            place = at(u(-140, 20), u(-50, 45), u(-140, -40))
            body.organ(place, tuple(size * u(0.8, 1.2, 3)), value, 1, 4, within=inside)


def _paint_spleen(body: Body) -> None:
    """Paint the spleen and, in some patients, small accessory ones near its hilum."""
    rng, hu, at = body.rng, body.hu, body.patient.at
    u = rng.uniform
    # In the arterial phase the spleen is mottled.
    mottle = u(10, 25) if body.patient.phase == "arterial" else 3
    center = at(-75 + u(-25, 15), 28, 112)
    body.organ(center, (u(35, 75), u(34, 52), u(22, 36)), hu["spleen"], 4, mottle, 2, 2.3)
    if body.has("accessory spleen"):
        for _ in range(int(rng.integers(1, 4))):
            place = center + np.array([u(-30, 50), u(-45, 5), u(-60, -25)])
            body.organ(place, (u(4, 11),) * 3, hu["spleen"], 0.5, mottle / 2, 2, 2)


def _paint_gallbladder(body: Body) -> None:
    """Paint the gallbladder, with stones in some patients."""
    if body.has("no gallbladder"):
        return
    u, at = body.rng.uniform, body.patient.at
    center, radii = at(u(-40, 25), u(-62, -35), u(-62, -35)), (u(20, 42), u(10, 20), u(10, 20))
    bile = u(60, 120) if body.rng.random() < 0.08 else body.hu["bile"]
    body.organ(center, (radii[0] + 1.5, radii[1] + 1.5, radii[2] + 1.5), body.hu["bowel"], 1.5, 2)
    body.organ(center, radii, bile, 1.5, 2)
    if body.has("gallstones"):
        for _ in range(int(body.rng.integers(1, 5))):
            place = center + np.array([u(0, 12), u(0, 6), u(-5, 5)])
            body.organ(place, (u(2, 8),) * 3, u(40, 500), 0.3, 10)


def _paint_pancreas(body: Body) -> None:
    """Paint the pancreas: its tail ends near the left kidney and the spleen."""
    rng, scene, hu = body.rng, body.scene, body.hu
    u = rng.uniform
    path = body.path(
        (u(5, 30), -8, -40), (-12, -22, -12), (-32 + u(-10, 10), -16, 38),
        (-55 + u(-15, 20), u(0, 18), u(72, 95)),
    )  # fmt: skip
    region = body.around((path.max(0) + path.min(0)) / 2, np.ptp(path, 0) / 2 + 16)
    if region is not None:
        level = tube(scene.at(region), path, u(6, 14)) + 2.5 * scene.noise(region, 9)
        lobules = u(0, 30) * np.clip(scene.noise(region, 5), 0, 2)
        level = np.maximum(level, body.cavity[region])
        scene.paint(level, region, hu["pancreas"] - lobules)


def _paint_adrenal(body: Body, side: int) -> None:
    """Paint an adrenal: a body and two thin limbs above the kidney; a nodule in some patients."""
    rng, hu = body.rng, body.hu
    u = rng.uniform
    top = body.patient.at(-62 - 6 * side + u(-8, 8), 14 + u(-6, 6), 36 * side + u(-6, 6))
    for bend in (-1, 1):
        limb = np.array([u(14, 24), u(8, 16), bend * u(5, 11)])
        body.tube(np.stack([top, top + limb]), u(1.8, 3.6), hu["adrenal"])
    if body.has("adrenal nodule") and rng.random() < 0.65:
        radius = float(np.clip(8 * np.exp(0.5 * rng.standard_normal()), 4, 30))
        place = top + u(-4, 10, 3)
        # Adenomas hold fat; metastases do not.
        value = hu["adrenal"] + u(-25, 25)
        body.organ(place, tuple(radius * u(0.8, 1.2, 3)), value, 1, 5, 1.5)


def _paint_ascites(body: Body) -> None:
    """Replace the fat at the sides and between the organs by fluid, below a random level."""
    scene, full, rng = body.scene, body.scene.everywhere, body.rng
    shallow = body.patient.half_y_mm * rng.uniform(-0.5, 0.3)
    side = rng.uniform(0.5, 0.75) * body.patient.half_x_mm - abs(scene.mm[2])
    pool = np.maximum.reduce([
        body.cavity + 1, shallow - scene.mm[1], side + 15 * scene.noise(full, 25),
    ])  # fmt: skip
    scene.paint(pool, full, body.hu["water"])
