"""The phantom's viscera: organs, bowel and vessels inside the abdominal cavity.

Places are those of the average patient that `anatomy` describes. Painters take the level of the
cavity, so that nothing lies outside it.
"""

import numpy as np

from kitsjax.phantom.anatomy import Patient
from kitsjax.phantom.painting import Scene, ellipsoid, tube

GAS_HU = -950.0


def paint_viscera(
    rng: np.random.Generator, scene: Scene, patient: Patient, cavity: np.ndarray
) -> None:
    """Paint bowel, pancreas, duodenum, stomach, liver, spleen, gallbladder and vessels."""
    u, hu, at = rng.uniform, patient.hu, patient.at
    _paint_bowel(rng, scene, patient, cavity)
    pancreas = np.stack([at(-8, -8, -38), at(-12, -22, -8), at(-35, -14, 38), at(-55, 2, 75)])
    duodenum = np.stack([at(-25, -20, -35), at(5, -14, -50), at(38, -10, -45), at(48, -10, -5)])
    paint_tube(scene, pancreas, u(9, 13), hu["bowel"] + 5, cavity)
    paint_tube(scene, duodenum, u(10, 14), u(20, 75), cavity)
    # In the arterial phase the spleen is mottled.
    mottle = 18 if patient.phase == "arterial" else 3
    # Stomach, two lobes of the liver, spleen and gallbladder.
    organs = [  # center, radii, HU, roughness in mm, texture in HU
        (at(-75, -40, 60) + u(-10, 10, 3), (50, 36, 46), hu["bowel"], 4, 4),
        (at(-75, -18, -82), (u(65, 100), 76, 78), hu["liver"], 5, 3),
        (at(-100, -50, -15), (u(35, 55), 36, 68), hu["liver"], 4, 3),
        (at(-80 + u(-15, 15), 24, 110), (u(38, 62), 42, 27), hu["spleen"], 4, mottle),
        (at(u(-30, 10), -52, -42), (u(20, 36), u(11, 17), u(11, 17)), u(0, 18), 2, 2),
    ]
    for center, radii, value, rough, texture in organs:
        region = scene.around(center, max(radii) + 3 * rough)
        level = ellipsoid(scene.at(region), center, radii, 2.2) + rough * scene.noise(region, 30)
        level = np.maximum(level, cavity[region] + 1)
        scene.paint(level - 2, region, hu["fat"])
        scene.paint(level, region, value + texture * scene.noise(region, 9))
    # Vessels of the liver.
    for _ in range(7):
        start, end = at(-60, -15, -45), at(u(-130, -20), u(-60, 30), u(-130, -30))
        path = np.array([start, (start + end) / 2 + u(-8, 8, 3), end])
        paint_tube(scene, path, u(2.5, 4.5), hu["liver"] + u(10, 50), cavity)
    _paint_great_vessels(rng, scene, patient, cavity)


def _paint_great_vessels(
    rng: np.random.Generator, scene: Scene, patient: Patient, cavity: np.ndarray
) -> None:
    """Paint aorta and vena cava before the spine, mesenteric and portal trunks, and branches."""
    u, hu, at = rng.uniform, patient.hu, patient.at
    trunks = [
        ([at(-300, 8, 10), at(0, 5, 10), at(300, 8, 4)], u(8, 12), hu["aorta"]),
        ([at(-300, -4, -22), at(0, 4, -24), at(300, 10, -22)], u(9, 13), hu["vein"]),
        ([at(-45, -5, 8), at(-25, -30, 4), at(120, -30, -4)], u(3.5, 5), hu["aorta"]),
        ([at(-40, -25, -30), at(-15, -30, -6), at(120, -32, -14)], u(5, 7), hu["vein"]),
    ]
    for _ in range(14):
        start = at(u(-10, 90), -32, u(-15, 5))
        end = at(start[0] + u(-20, 50), u(-70, -25), u(-85, 95))
        middle = (start + end) / 2 + u(-12, 12, 3)
        trunks.append(([start, middle, end], u(1.7, 2.6), hu["vein"]))
    for path, radius, value in trunks:
        paint_tube(scene, np.array(path), radius, value, cavity)


def paint_tube(
    scene: Scene, path: np.ndarray, radius_mm: float, value: float, cavity: np.ndarray
) -> None:
    """Paint a tube of one HU value along a polyline (points, 3), inside the cavity."""
    region = scene.around((path.max(0) + path.min(0)) / 2, np.ptp(path, 0) / 2 + radius_mm)
    level = tube(scene.at(region), path, radius_mm)
    scene.paint(np.maximum(level, cavity[region]), region, value)


def _paint_bowel(
    rng: np.random.Generator, scene: Scene, patient: Patient, cavity: np.ndarray
) -> None:
    """Paint colon and small bowel: an enhancing wall around fluid, stool, contrast or gas."""
    u, at = rng.uniform, patient.at
    colon = [
        [at(0, -20, -105), at(60, -8, -112), at(150, 0, -108)],
        [at(-45, 8, 118), at(20, 14, 122), at(150, 10, 118)],
        [at(-5, -35, -95), at(25, -70, -40), at(20, -72, 40), at(-30, -45, 105)],
    ]
    # Path, radius, texture of the filling in HU, probability of gas.
    loops = [(np.array(path), u(14, 22), 45, 0.7) for path in colon]
    for _ in range(int(rng.integers(26, 42))):
        start = at(u(-30, 130), u(-80, -12), u(-88, 95))
        bends = np.cumsum([u(-38, 38, 3), u(-38, 38, 3)], 0)
        loops.append((np.vstack([start, start + bends]), u(8, 14), 8, 0.25))
    oral = rng.random() < 0.4
    for path, radius, texture, gassy in loops:
        filling = u(150, 350) if rng.random() < 0.4 * oral else u(0, 50)
        wall_mm, has_gas, height = u(2, 3.5), rng.random() < gassy, u(-0.6, 0.6) * radius
        region = scene.around((path.max(0) + path.min(0)) / 2, np.ptp(path, 0) / 2 + radius)
        mm = scene.at(region)
        if min(mm.shape) < 2:
            continue
        level = tube(mm, path, radius) + 2.0 * scene.noise(region, 14)
        level = np.maximum(level, cavity[region] + 1)
        scene.paint(level, region, patient.hu["bowel"] + 8 * scene.noise(region, 8))
        scene.paint(level + wall_mm, region, filling + texture * scene.noise(region, 7))
        if has_gas:
            # Gas rises to the front of a patient who lies on the back.
            above = mm[1] - path[:, 1].mean() + height
            scene.paint(np.maximum(level + wall_mm, above), region, GAS_HU)
