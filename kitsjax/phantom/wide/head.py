"""The wide phantom's head: nothing of it is a kidney."""

import numpy as np

from kitsjax.phantom.painting import Scene, ellipsoid
from kitsjax.phantom.wide.patient import WidePatient

HALF_MM = (105.0, 92.0, 72.0)


def paint_head(rng: np.random.Generator, scene: Scene, patient: WidePatient) -> None:
    """Paint skin, skull, brain, ventricles, sinuses, eyes, jaw and teeth; z from -110 to 120."""
    hu, full, mm = patient.hu, scene.everywhere, scene.mm
    u = rng.uniform
    half = np.array(HALF_MM) * u(0.9, 1.08, 3)
    outer = np.minimum(
        ellipsoid(mm, (0, 0, 0), half, 2.2),
        np.maximum(np.hypot(mm[2] / 58, mm[1] / 62) - 1, -mm[0] / 60) * 60,
    )
    skull = ellipsoid(mm, (-10, 4, 0), half - np.array([14, 10, 8]), 2.2)
    scene.paint(outer, full, 20)
    scene.paint(outer + 2.5, full, hu["fat"])
    scene.paint(outer + u(4, 7), full, hu["muscle"] - 40 * np.clip(scene.noise(full, 9), 0, 1))
    scene.paint(skull, full, u(700, 1300))
    brain = skull + u(5, 9)
    scene.paint(brain, full, hu["brain"] + 4 * scene.noise(full, 10))
    for side in (-1, 1):
        ventricle = ellipsoid(mm, (-25, 5, 14 * side), (14, 32, u(4, 10)))
        scene.paint(np.maximum(ventricle, brain + 5), full, u(2, 12))
        eye = ellipsoid(mm, (22, -half[1] + 16, 33 * side), (12, 12, 12))
        scene.paint(eye - 4, full, hu["fat"])
        scene.paint(eye, full, u(5, 20))
        sinus = ellipsoid(mm, (48, -half[1] + 34, 26 * side), (16, 15, 13)) + 2 * scene.noise(
            full, 8
        )
        scene.paint(sinus - 2, full, 400)
        scene.paint(sinus, full, -970 if rng.random() < 0.8 else 25)
    airway = np.hypot(mm[2] / 10, (mm[1] + 20) / 9) - 1
    scene.paint(9 * np.maximum(airway, (45 - mm[0]) / 9), full, -980)
    jaw = abs(np.hypot(mm[2], 0.8 * (mm[1] + 30)) - 48) - 5
    jaw = np.maximum.reduce([jaw, mm[1] + 25, abs(mm[0] - 92) - 12])
    scene.paint(jaw, full, 900)
    teeth = np.maximum(jaw + 1, abs(mm[0] - 82) - 8)
    scene.paint(teeth, full, 1500 + 600 * scene.noise(full, 6))
    spine = np.maximum(np.hypot(mm[2] / 11, (mm[1] - 38) / 9) - 1, (55 - mm[0]) / 9) * 9
    scene.paint(spine, full, hu["cortical"])
    scene.paint(spine + 3, full, hu["marrow"])
