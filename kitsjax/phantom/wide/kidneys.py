"""Where the wide phantom's kidneys lie: size, tilt, side, and what is unusual about each."""

from typing import NamedTuple

import numpy as np

from kitsjax.phantom.kidneys import Kidney
from kitsjax.phantom.wide.features import REGIONS
from kitsjax.phantom.wide.patient import WidePatient

HALF_MM = (55.0, 25.0, 28.0)
"""Half lengths of the mean adult kidney, from pole to pole, front to back, and across."""

ONE_SIDED = (
    "atrophy", "hydronephrosis", "extrarenal pelvis", "stones", "stent", "duplicated",
    "pelvic kidney",
)  # fmt: skip
"""Features that one kidney has, on a random side."""


class PlacedKidney(NamedTuple):
    """A kidney and what is unusual about it.

    Attributes:
        shape: place, size and direction.
        traits: features of this kidney, keys of `features.KIDNEY_FEATURES`.
    """

    shape: Kidney
    traits: frozenset[str]


def place_kidneys(rng: np.random.Generator, patient: WidePatient) -> list[PlacedKidney]:
    """Place none, one or two kidneys, the right one lower."""
    features = patient.features
    if not REGIONS[patient.region].kidneys or "no kidneys" in features:
        return []
    sides = [-1, 1]
    size = rng.uniform(0.84, 1.16) * (0.5 + 0.5 * patient.tall)
    if "nephrectomy" in features:
        sides = [int(rng.choice(sides))]
        size *= rng.uniform(1.0, 1.2)
    affected = {feature: int(rng.choice(sides)) for feature in ONE_SIDED}
    kidneys = []
    for side in sides:
        others = {f for f in features if affected.get(f, side) == side}
        kidneys.append(_place_one(rng, patient, side, size, frozenset(others)))
    return kidneys


def _place_one(
    rng: np.random.Generator,
    patient: WidePatient,
    side: int,
    size: float,
    traits: frozenset[str],
) -> PlacedKidney:
    u = rng.uniform
    half_mm = np.array(HALF_MM) * size * u(0.92, 1.08, 3)
    center = patient.at(4 - 10 * side, 22, 67 * side) + u([-18, -8, -8], [18, 8, 8])
    # Lower poles lie lateral and in front; the hilum faces medially and forward.
    splay, tilt, rotation = u([0.05, 0.0, 0.1], [0.4, 0.35, 0.9])
    if "atrophy" in traits:
        half_mm *= u(0.45, 0.75)
    if "polycystic" in traits:
        half_mm *= u(1.1, 1.5)
    if "duplicated" in traits:
        half_mm[0] *= 1.12
    if "horseshoe" in traits:
        center = patient.at(22, 8, 48 * side) + u(-5, 5, 3)
        splay, tilt, rotation = u([-0.5, 0.0, 0.8], [-0.25, 0.2, 1.3])
    elif "pelvic kidney" in traits:
        center = patient.at(u(95, 175), 2, 38 * side) + u(-8, 8, 3)
        half_mm *= u(0.75, 1)
        rotation = u(0.8, 1.6)
    long = np.array([1, -tilt, side * splay])
    long /= np.linalg.norm(long)
    # Make the second axis perpendicular to the first; the third is perpendicular to both.
    out = np.array([0, np.sin(rotation), side * np.cos(rotation)])
    out -= (out @ long) * long
    out /= np.linalg.norm(out)
    axes = np.stack([long, np.cross(out, long), out])
    shape = Kidney(center, half_mm, axes, side, u(4, 13), u(2.0, 2.5))
    return PlacedKidney(shape, traits)
