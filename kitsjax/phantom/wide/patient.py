"""A patient of the wide phantom: features, tissues and build."""

from dataclasses import dataclass

import numpy as np

from kitsjax.phantom.anatomy import Patient
from kitsjax.phantom.wide.features import draw_features
from kitsjax.phantom.wide.ranges import PHASE_SHARE, draw_tissues


@dataclass(frozen=True)
class WidePatient(Patient):
    """A patient of any build, scanned anywhere.

    Attributes:
        region: the part of the body that is scanned, a key of `features.REGIONS`.
        features: what the case shows, keys of `features.FEATURES`.
        tall: factor of the body's height.
        fatness: 0 to 1, how much fat lies between the organs.
        roundness: power of the superellipse that is the trunk's outline.
        waist, hips: factors of the width there.
        belly: factor of the depth of the trunk's front.
    """

    region: str
    features: frozenset[str]
    tall: float
    fatness: float
    roundness: float
    waist: float
    hips: float
    belly: float

    def at(self, z: float, y: float, x: float) -> np.ndarray:
        """Scale a place of the average patient to this one, in mm."""
        return np.array([z * self.tall, y * self.half_y_mm / 115, x * self.half_x_mm / 165])


def draw_patient(rng: np.random.Generator) -> WidePatient:
    """Draw a patient from the lean to the obese: trunks 250 to 430 mm wide.

    The fat within the abdomen goes with the width, loosely, and so does the depth of the belly.
    """
    region, features = draw_features(rng)
    phase = str(rng.choice(list(PHASE_SHARE), p=list(PHASE_SHARE.values())))
    hu = draw_tissues(rng, phase, "steatosis" in features)
    half_x = float(np.clip(rng.normal(165, 20), 125, 215))
    fatness = float(np.clip(0.5 + (half_x - 165) / 80 + rng.normal(0, 0.25), 0, 1))
    return WidePatient(
        phase=phase,
        hu=hu,
        half_y_mm=half_x * rng.uniform(0.6, 0.78),
        half_x_mm=half_x,
        fat_mm=rng.uniform(4, 10) + 32 * fatness * rng.uniform(0.3, 1),
        wall_mm=rng.uniform(9, 18),
        region=region,
        features=features,
        tall=rng.uniform(0.9, 1.1),
        fatness=fatness,
        roundness=rng.uniform(2.0, 2.6),
        waist=rng.uniform(0.9, 1.02),
        hips=rng.uniform(0.98, 1.12),
        belly=1 + 0.2 * fatness * rng.random(),
    )
