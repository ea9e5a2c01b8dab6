"""The phantom's patient: trunk, lung bases, skeleton, and the table under the patient.

Places are in mm from the middle of the body between the kidneys (z inferior, y posterior, x left).
They are given for an average patient, whose trunk has half axes of 165 mm (x) and 115 mm (y), and
scaled to the patient at hand.
"""

from dataclasses import dataclass

import numpy as np

from kitsjax.phantom.painting import AIR_HU, Scene, ellipsoid

SKIN_HU, LUNG_HU = 20.0, -840.0

PHASES: dict[str, dict[str, tuple[float, float]]] = {
    # Each tissue of a patient gets an HU value from its range. The ranges are textbook values of
    # renal CT, widened until they enclose the kidneys, livers and tumors of real KiTS slices.
    # "clear" (a share of the cortex) and "papillary" are the usual enhancements of solid tumors.
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
"""The phases are drawn with these probabilities: most KiTS scans are late arterial."""


@dataclass(frozen=True)
class Patient:
    """A patient's contrast phase, tissues and trunk.

    Attributes:
        phase: the contrast phase, a key of `PHASES`.
        hu: the HU of each tissue.
        half_y_mm: half the depth of the trunk.
        half_x_mm: half the width of the trunk.
        fat_mm: thickness of the fat under the skin.
        wall_mm: thickness of the muscles of the abdominal wall.
    """

    phase: str
    hu: dict[str, float]
    half_y_mm: float
    half_x_mm: float
    fat_mm: float
    wall_mm: float

    @property
    def spine_y_mm(self) -> float:
        """The y coordinate of the centers of the vertebral bodies, in mm."""
        return 0.25 * self.half_y_mm

    def at(self, z: float, y: float, x: float) -> np.ndarray:
        """Scale a place of the average patient to this one, in mm."""
        return np.array([z, y * self.half_y_mm / 115, x * self.half_x_mm / 165])


def draw_patient(rng: np.random.Generator, fov_mm: float) -> Patient:
    """Draw a patient whose trunk fills 78 to 94% of the width of the field of view."""
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
    """Paint skin, fat, muscle, lung bases and bones; return the level of the abdominal cavity."""
    hu, full, spine_y = patient.hu, scene.everywhere, patient.spine_y_mm
    z, y, x = scene.mm
    # The outline is a superellipse with a flattened back; `ring` is 1 on it.
    flat = np.where(y > 0, 1.1 * y, y)
    ring = (abs(x / patient.half_x_mm) ** 2.3 + abs(flat / patient.half_y_mm) ** 2.3) ** (1 / 2.3)
    skin = np.hypot(x, y) * (1 - 1 / np.maximum(ring, 1e-3))
    muscle = skin + patient.fat_mm * (1 + 0.2 * scene.noise(full, 70))
    # The muscles along the spine; psoas and the square muscle of the loin grow downward.
    erector = ellipsoid(scene.mm, (0, spine_y + 44, 0), (1e4, 32, 64), 2.8)
    bulk = np.clip(13 + 0.07 * z, 5, 21)
    psoas = np.hypot(abs(x) - 22 - 0.85 * bulk, (y - spine_y - 3) / 1.25) - bulk
    loin = np.hypot((abs(x) - 62) / 1.3, y - spine_y - 24) - np.clip(0.15 * z + 8, -5, 14)
    vertebra = ellipsoid(scene.mm, (0, spine_y, 0), (1e4, 20, 25), 2.4)
    wall = patient.wall_mm * (1 - 0.45 * (y < 0) * np.exp(-((x / 70) ** 2)))  # thin in front
    # The cavity is inside the wall and outside all of these.
    walls = [muscle + wall, -erector, -psoas, -loin, -vertebra]
    cavity = np.maximum.reduce(walls)
    # Each paint covers the one before, from the skin inward.
    scene.paint(skin, full, SKIN_HU)
    scene.paint(skin + 2, full, hu["fat"] + 5 * scene.noise(full, 12))
    marbling = 60 * np.clip(scene.noise(full, 7) - 1, 0, 1)
    scene.paint(muscle, full, hu["muscle"] + 6 * scene.noise(full, 9) - marbling)
    for fascia in (erector, psoas):
        scene.paint(np.maximum(abs(fascia + 1) - 1.2, muscle + 4), full, hu["fat"], 0.5)
    scene.paint(cavity, full, hu["fat"] + 7 * scene.noise(full, 12))
    # The lungs end at the diaphragm, which lies lower toward the wall, most of all at the back.
    dome = rng.uniform(-130, -100) + 75 * np.clip(ring - 0.35, 0, 1) ** 2 * (1 + 0.5 * (y > 0))
    lung = np.maximum.reduce([z - dome, cavity, 30 - abs(x + 8)])
    scene.paint(lung, full, LUNG_HU + 60 * scene.noise(full, 8))
    _paint_spine(rng, scene, patient)
    _paint_ribs(rng, scene, patient, muscle)
    return np.maximum(cavity, dome - z)


def _paint_spine(rng: np.random.Generator, scene: Scene, patient: Patient) -> None:
    """Paint waisted vertebral bodies with disks between them, arches, processes and the canal."""
    hu, y0 = patient.hu, patient.spine_y_mm
    region = scene.around(np.array([0, y0 + 25, 0]), np.array([1e4, 50, 42]))
    z, y, x = mm = scene.at(region)
    # A vertebra and its disk repeat every `height` mm; `along` runs from a vertebra's middle.
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
    """Paint ribs in the wall, falling as they go around; none in front or below the twelfth."""
    hu, full = patient.hu, scene.everywhere
    z, y, x = scene.mm
    # The angle around the body is 0 at the back. Ribs repeat every 28 mm.
    angle = np.arctan2(abs(x), y - patient.spine_y_mm + 10)
    fall = z - 55 * angle
    across = (fall + rng.uniform(0, 28)) % 28 - 14
    rib = (np.hypot((muscle + 6) / 4, across / 6.5) - 1) * 4.5
    rib = np.maximum.reduce([rib, fall + 55, 30 - abs(x), 20 * angle - 44])
    scene.paint(rib, full, hu["cortical"])
    scene.paint(rib + 2.2, full, hu["marrow"])


def paint_table(rng: np.random.Generator, scene: Scene, patient: Patient) -> None:
    """Paint the table in most scans: two shells under the patient, the same in every slice."""
    y, x = np.meshgrid(scene.voxels[1], scene.voxels[2], indexing="ij")
    top, radius = patient.half_y_mm * 0.91 + rng.uniform(12, 25), rng.uniform(400, 700)
    shown, hu = rng.random() < 0.8, rng.uniform(-150, 250)
    for depth in (0, rng.uniform(12, 25)) if shown else ():
        distance = np.hypot(x, y - top - depth + radius) - radius
        shell = np.clip(0.5 - (abs(distance) - 1.5) / scene.spacing_mm[1], 0, 1) * (abs(x) < 200)
        scene.image += np.float32(shell * (hu - AIR_HU))
