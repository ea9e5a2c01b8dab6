"""The wide phantom's organs of the pelvis: bladder, and uterus with ovaries, or prostate."""

import numpy as np

from kitsjax.phantom.wide.body import Body


def paint_pelvis(body: Body) -> None:
    """Paint the bladder, in the excretory phase with contrast below, and the genital organs."""
    rng, hu = body.rng, body.hu
    u, at = rng.uniform, body.patient.at
    size = u(16, 46)
    bladder = at(230 - 0.5 * size + u(-8, 8), -38, u(-6, 6))
    if rng.random() < 0.5:
        body.organ(at(205, 2, u(-8, 8)), (u(20, 40), u(18, 32), u(22, 40)), hu["muscle"] + 15, 3, 8)
        for side in (-1, 1):
            value = hu["water"] if rng.random() < 0.5 else hu["muscle"]
            body.organ(at(195, 5, 45 * side), (u(8, 20), u(8, 18), u(8, 22)), value, 2, 4)
    else:
        body.organ(at(262, -10, 0), (u(14, 24), u(14, 22), u(18, 28)), hu["muscle"] + 5, 2, 8)
    radii = (size, 0.9 * size, u(1, 1.35) * size)
    walled = (radii[0] + 3, radii[1] + 3, radii[2] + 3)
    body.organ(bladder, walled, hu["muscle"], 2, 3, 2)
    body.organ(bladder, radii, hu["water"] if rng.random() < 0.3 else hu["urine"], 2, 2)
    if body.has("catheter"):
        body.organ(bladder + np.array([0.5 * size, 0, 0]), (u(8, 14),) * 3, u(0, 60), 0.5, 0)
