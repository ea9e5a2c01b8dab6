"""The phantom's patient: body, skeleton, viscera, vessels, and the table under it.

Places are given for an average patient, whose trunk has half axes of 165 and 115 mm, in mm from
the middle of the body between the kidneys (z inferior, y posterior, x left), and scaled to the
patient at hand.
"""

from dataclasses import dataclass

import numpy as np

from kitsjax.phantom.painting import AIR_HU, Scene, ellipsoid, tube

SKIN_HU, LUNG_HU, GAS_HU = 20.0, -840.0, -950.0

PHASES: dict[str, dict[str, tuple[float, float]]] = {
    # HU ranges a patient's tissues are drawn from: textbook values of renal CT, widened until
    # they enclose the kidneys, livers and tumors of real KiTS slices. "clear" (a share of
    # the cortex) and "papillary" are the two usual enhancements of solid tumors.
    "arterial": {
        "aorta": (210, 340), "vein": (80, 160), "cortex": (105, 195), "medulla": (50, 88),
        "liver": (52, 90), "spleen": (95, 140), "bowel": (60, 105), "urine": (0, 15),
        "clear": (0.48, 0.7), "papillary": (42, 60),
    },
    "nephrographic": {
        "aorta": (125, 175), "vein": (120, 170), "cortex": (105, 165), "medulla": (95, 155),
        "liver": (95, 140), "spleen": (100, 145), "bowel": (70, 105), "urine": (0, 60),
        "clear": (0.48, 0.66), "papillary": (45, 65),
    },
    "delayed": {
        "aorta": (90, 125), "vein": (90, 125), "cortex": (92, 140), "medulla": (95, 145),
        "liver": (75, 100), "spleen": (80, 105), "bowel": (55, 85), "urine": (200, 600),
        "clear": (0.48, 0.66), "papillary": (42, 60),
    },
}  # fmt: skip

PHASE_SHARE = (0.5, 0.35, 0.15)
"""Most KiTS scans are late arterial."""


@dataclass(frozen=True)
class Patient:
    """What is drawn once a patient: contrast phase, tissues in HU, the trunk's sizes in mm."""

    phase: str
    hu: dict[str, float]
    half_y_mm: float
    half_x_mm: float
    fat_mm: float
    wall_mm: float

    @property
    def spine_y_mm(self) -> float:
        """Center of the vertebral bodies."""
        return 0.25 * self.half_y_mm

    def at(self, z: float, y: float, x: float) -> np.ndarray:
        """A place of the average patient in this one, mm."""
        return np.array([z, y * self.half_y_mm / 115, x * self.half_x_mm / 165])


def draw_patient(rng: np.random.Generator, fov_mm: float) -> Patient:
    """A patient whose trunk fills 78 to 94% of the width of the field of view."""
    phase = str(rng.choice(list(PHASES), p=PHASE_SHARE))
    hu = {tissue: rng.uniform(*span) for tissue, span in PHASES[phase].items()}
    hu["clear"] *= hu["cortex"]
    hu |= {"fat": rng.uniform(-112, -92), "muscle": rng.uniform(38, 66)}
    hu |= {"marrow": rng.uniform(130, 230), "cortical": rng.uniform(330, 480)}
    half_x = fov_mm * rng.uniform(0.39, 0.47)
    half_y = half_x * rng.uniform(0.62, 0.76)
    fat, wall = rng.uniform(0.05, 0.2) * half_x, rng.uniform(10, 17)
    return Patient(phase, hu, half_y, half_x, fat, wall)


def paint_trunk(rng: np.random.Generator, scene: Scene, patient: Patient) -> np.ndarray:
    """Skin, fat, muscle, lung bases and bones; returns the level of the abdominal cavity."""
    hu, full, spine_y = patient.hu, scene.everywhere, patient.spine_y_mm
    z, y, x = scene.mm
    flat = np.where(y > 0, 1.1 * y, y)
    ring = (abs(x / patient.half_x_mm) ** 2.3 + abs(flat / patient.half_y_mm) ** 2.3) ** (1 / 2.3)
    skin = np.hypot(x, y) * (1 - 1 / np.maximum(ring, 1e-3))
    muscle = skin + patient.fat_mm * (1 + 0.2 * scene.noise(full, 70))
    erector = ellipsoid(scene.mm, (0, spine_y + 44, 0), (1e4, 32, 64), 2.8)
    # Psoas and the square muscle of the loin grow downward.
    bulk = np.clip(13 + 0.07 * z, 5, 21)
    psoas = np.hypot(abs(x) - 22 - 0.85 * bulk, (y - spine_y - 3) / 1.25) - bulk
    loin = np.hypot((abs(x) - 62) / 1.3, y - spine_y - 24) - np.clip(0.15 * z + 8, -5, 14)
    vertebra = ellipsoid(scene.mm, (0, spine_y, 0), (1e4, 20, 25), 2.4)
    wall = patient.wall_mm * (1 - 0.45 * (y < 0) * np.exp(-((x / 70) ** 2)))  # thin in front
    walls = [muscle + wall, -erector, -psoas, -loin, -vertebra]
    cavity = np.maximum.reduce(walls)
    scene.paint(skin, full, SKIN_HU)
    scene.paint(skin + 2, full, hu["fat"] + 5 * scene.noise(full, 12))
    marbling = 60 * np.clip(scene.noise(full, 7) - 1, 0, 1)
    scene.paint(muscle, full, hu["muscle"] + 6 * scene.noise(full, 9) - marbling)
    for fascia in (erector, psoas):
        scene.paint(np.maximum(abs(fascia + 1) - 1.2, muscle + 4), full, hu["fat"], 0.5)
    scene.paint(cavity, full, hu["fat"] + 7 * scene.noise(full, 12))
    dome = rng.uniform(-130, -100) + 75 * np.clip(ring - 0.35, 0, 1) ** 2 * (1 + 0.5 * (y > 0))
    lung = np.maximum.reduce([z - dome, cavity, 30 - abs(x + 8)])
    scene.paint(lung, full, LUNG_HU + 60 * scene.noise(full, 8))
    _paint_spine(rng, scene, patient)
    _paint_ribs(rng, scene, patient, muscle)
    return np.maximum(cavity, dome - z)


def _paint_spine(rng: np.random.Generator, scene: Scene, patient: Patient) -> None:
    """Waisted vertebral bodies with disks between them, arches, processes and the canal."""
    hu, y0 = patient.hu, patient.spine_y_mm
    region = scene.around(np.array([0, y0 + 25, 0]), np.array([1e4, 50, 42]))
    z, y, x = mm = scene.at(region)
    height = rng.uniform(32, 38)
    along = (z + rng.uniform(0, height)) % height - height / 2
    disk = height / 2 - 4.5 - abs(along)
    body = ellipsoid(mm, (0, y0, 0), (1e4, 17, 22), 2.4) + 2.5 * np.cos(2 * np.pi * along / height)
    scene.paint(body, region, np.where(disk < 0, 85, hu["cortical"] - 40))
    inside = np.maximum(body + 2.5, 1.5 - disk)
    scene.paint(inside, region, hu["marrow"] + 25 * scene.noise(region, 7))
    arch = np.hypot(x, y - y0 - 28) - 14
    transverse = np.maximum(np.hypot(abs(along) - 2, y - y0 - 26) - 6, abs(x) - 38)
    spinous = np.hypot(np.maximum(abs(along) - 8, 0), x) - 3.5
    spinous = np.maximum(spinous, abs(y - y0 - 52) - 18)
    bone = np.minimum.reduce([arch, transverse, spinous])
    scene.paint(bone, region, hu["cortical"])
    scene.paint(bone + 2.5, region, hu["marrow"])
    scene.paint(np.hypot(x, y - y0 - 28) - 9, region, 30)


def _paint_ribs(
    rng: np.random.Generator, scene: Scene, patient: Patient, muscle: np.ndarray
) -> None:
    """Ribs in the wall, falling as they go around; none in front or below the twelfth."""
    hu, full = patient.hu, scene.everywhere
    z, y, x = scene.mm
    turn = np.arctan2(abs(x), y - patient.spine_y_mm + 10)
    fall = z - 55 * turn
    across = (fall + rng.uniform(0, 28)) % 28 - 14
    rib = (np.hypot((muscle + 6) / 4, across / 6.5) - 1) * 4.5
    rib = np.maximum.reduce([rib, fall + 55, 30 - abs(x), 20 * turn - 44])
    scene.paint(rib, full, hu["cortical"])
    scene.paint(rib + 2.2, full, hu["marrow"])


def paint_viscera(
    rng: np.random.Generator, scene: Scene, patient: Patient, cavity: np.ndarray
) -> None:
    """Bowel, stomach, pancreas, liver, gallbladder, spleen and vessels, inside the cavity."""
    u, hu, at = rng.uniform, patient.hu, patient.at
    _paint_bowel(rng, scene, patient, cavity)
    pancreas = np.stack([at(-8, -8, -38), at(-12, -22, -8), at(-35, -14, 38), at(-55, 2, 75)])
    duodenum = np.stack([at(-25, -20, -35), at(5, -14, -50), at(38, -10, -45), at(48, -10, -5)])
    paint_tube(scene, pancreas, u(9, 13), hu["bowel"] + 5, cavity)
    paint_tube(scene, duodenum, u(10, 14), u(20, 75), cavity)
    mottle = 18 if patient.phase == "arterial" else 3
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
    for _ in range(7):
        start, end = at(-60, -15, -45), at(u(-130, -20), u(-60, 30), u(-130, -30))
        path = np.array([start, (start + end) / 2 + u(-8, 8, 3), end])
        paint_tube(scene, path, u(2.5, 4.5), hu["liver"] + u(10, 50), cavity)
    _paint_great_vessels(rng, scene, patient, cavity)


def _paint_great_vessels(
    rng: np.random.Generator, scene: Scene, patient: Patient, cavity: np.ndarray
) -> None:
    """Aorta and vena cava before the spine, mesenteric and portal trunks, mesenteric twigs."""
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
    """A vessel along a polyline (points, 3), inside the cavity."""
    region = scene.around((path.max(0) + path.min(0)) / 2, np.ptp(path, 0) / 2 + radius_mm)
    level = tube(scene.at(region), path, radius_mm)
    scene.paint(np.maximum(level, cavity[region]), region, value)


def _paint_bowel(
    rng: np.random.Generator, scene: Scene, patient: Patient, cavity: np.ndarray
) -> None:
    """Colon and small loops: an enhancing wall around fluid, stool, oral contrast or gas."""
    u, at = rng.uniform, patient.at
    colon = [
        [at(0, -20, -105), at(60, -8, -112), at(150, 0, -108)],
        [at(-45, 8, 118), at(20, 14, 122), at(150, 10, 118)],
        [at(-5, -35, -95), at(25, -70, -40), at(20, -72, 40), at(-30, -45, 105)],
    ]
    loops = [(np.array(path), u(14, 22), 45, 0.7) for path in colon]
    for _ in range(int(rng.integers(26, 42))):
        start = at(u(-30, 130), u(-80, -12), u(-88, 95))
        bends = np.cumsum([u(-38, 38, 3), u(-38, 38, 3)], 0)
        loops.append((np.vstack([start, start + bends]), u(8, 14), 8, 0.25))
    oral = rng.random() < 0.4
    for path, radius, texture, gassy in loops:
        filling = u(150, 350) if rng.random() < 0.4 * oral else u(0, 50)
        wall_mm, air, height = u(2, 3.5), rng.random() < gassy, u(-0.6, 0.6) * radius
        region = scene.around((path.max(0) + path.min(0)) / 2, np.ptp(path, 0) / 2 + radius)
        mm = scene.at(region)
        if min(mm.shape) < 2:
            continue
        level = tube(mm, path, radius) + 2.0 * scene.noise(region, 14)
        level = np.maximum(level, cavity[region] + 1)
        scene.paint(level, region, patient.hu["bowel"] + 8 * scene.noise(region, 8))
        scene.paint(level + wall_mm, region, filling + texture * scene.noise(region, 7))
        if air:
            above = mm[1] - path[:, 1].mean() + height
            scene.paint(np.maximum(level + wall_mm, above), region, GAS_HU)


def paint_table(rng: np.random.Generator, scene: Scene, patient: Patient) -> None:
    """Two shells under the patient, the same in every slice, in most scans."""
    y, x = np.meshgrid(scene.voxels[1], scene.voxels[2], indexing="ij")
    top, radius = patient.half_y_mm * 0.91 + rng.uniform(12, 25), rng.uniform(400, 700)
    shown, hu = rng.random() < 0.8, rng.uniform(-150, 250)
    for depth in (0, rng.uniform(12, 25)) if shown else ():
        distance = np.hypot(x, y - top - depth + radius) - radius
        shell = np.clip(0.5 - (abs(distance) - 1.5) / scene.spacing_mm[1], 0, 1) * (abs(x) < 200)
        scene.image += np.float32(shell * (hu - AIR_HU))
