"""The wide phantom's vessels of the abdomen, with plaque and aneurysms."""

import numpy as np

from kitsjax.phantom.wide.body import Body


def paint_vessels(body: Body) -> None:
    """Paint aorta and vena cava, their branches to the organs and the legs, and the mesentery's."""
    rng, hu = body.rng, body.hu
    u = rng.uniform
    aorta = body.path((-300, 12, 12), (-100, 8, 10), (0, 4, 8), (88, 2, 2))
    radius = u(7, 12)
    if body.has("aneurysm"):
        # A wide part with a thrombus around the lumen.
        bulge = body.patient.at(u(20, 70), 0, 5)
        wide = u(15, 30)
        body.organ(bulge, (u(25, 45), wide, wide), hu["muscle"], 2, 4)
        body.organ(bulge, (u(20, 40), 0.6 * wide, 0.6 * wide), hu["aorta"], 1, 2)
    trunks: list[tuple[np.ndarray, float, str]] = [
        (aorta, radius, "aorta"),
        (body.path((-160, -2, -24), (0, 4, -24), (95, 4, -18)), u(7, 14), "vein"),
        (body.path((-48, -5, 8), (-50, -28, 2), (-52, -30, -35)), u(2.5, 4), "aorta"),
        (body.path((-40, -5, 8), (-25, -30, 4), (120, -32, -4)), u(3, 5), "aorta"),
        (body.path((-40, -22, -25), (-15, -28, -8), (120, -34, -14)), u(4.5, 7.5), "portal"),
        (body.path((-30, -20, -10), (-55, -18, -40), (-75, -15, -60)), u(5, 8), "portal"),
        # The vein of the spleen winds along the pancreas, in front of the left kidney.
        (
            body.path((-30, -20, -8), (-38, -12, 30), (-52, u(-5, 8), 62), (-65, 8, 90)),
            u(3, 6.5), "portal",
        ),
    ]  # fmt: skip
    for side in (-1, 1):
        down = ((88, 2, 2), (150, 12, 40), (215, -5, 70), (320, -52, 78))
        iliac = [(z, y, x * side + 2) for z, y, x in down]
        trunks.append((body.path(*iliac), u(4.5, 7), "aorta"))
        behind = [(z, y + 9, x - 4) for z, y, x in iliac]
        trunks.append((body.path(*behind), u(5, 8), "vein"))
    for path, width, tissue in trunks:
        body.tube(path, width, hu[tissue])
    _paint_mesentery(body)
    if body.has("plaque"):
        _paint_plaque(body, aorta, radius)


def _paint_mesentery(body: Body) -> None:
    """Paint the many small vessels of the fat between the loops."""
    u = body.rng.uniform
    for _ in range(16):
        start = body.patient.at(u(-10, 90), -32, u(-15, 5))
        end = body.patient.at(start[0] + u(-20, 60), u(-70, -20), u(-95, 95))
        middle = (start + end) / 2 + u(-12, 12, 3)
        body.tube(np.array([start, middle, end]), u(1.2, 2.6), body.hu["portal"])


def _paint_plaque(body: Body, aorta: np.ndarray, radius: float) -> None:
    """Paint calcified spots on the aorta's wall."""
    u = body.rng.uniform
    for _ in range(int(body.rng.integers(3, 20))):
        share, angle = u(0.3, 1), u(0, 2 * np.pi)
        spot = np.array([np.interp(share, np.linspace(0, 1, len(aorta)), c) for c in aorta.T])
        spot += radius * np.array([0, np.sin(angle), np.cos(angle)])
        body.organ(spot, (u(2, 8), u(1, 2.5), u(1, 2.5)), u(300, 900), 0.3, 0)
