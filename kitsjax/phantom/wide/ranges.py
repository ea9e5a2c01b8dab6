"""Hounsfield units of the wide phantom: unenhanced tissues, and what contrast agent adds by phase.

A tissue has its unenhanced HU plus its enhancement times the patient's uptake, which stands for
dose, weight and tube voltage. Where a measurement was found, the range encloses its mean and one or
two standard deviations; the others are estimates. docs/synthetic.md says which are which.
"""

import numpy as np

UNENHANCED: dict[str, tuple[float, float]] = {
    "fat": (-120, -86), "muscle": (24, 64), "blood": (28, 52), "kidney": (14, 42),
    "liver": (40, 76), "spleen": (38, 56), "pancreas": (24, 48), "bowel": (22, 46),
    "adrenal": (8, 38), "bile": (0, 20), "water": (-4, 16), "tumor": (16, 44),
    "marrow": (70, 260), "cortical": (280, 700), "brain": (24, 40), "lung": (-900, -720),
}  # fmt: skip

ENHANCEMENT: dict[str, dict[str, tuple[float, float]]] = {
    "none": {},
    "arterial": {
        "aorta": (190, 330), "vein": (15, 110), "portal": (15, 90), "cortex": (75, 185),
        "medulla": (10, 75), "liver": (4, 25), "spleen": (50, 100), "pancreas": (40, 80),
        "bowel": (28, 70), "adrenal": (25, 60), "muscle": (2, 12), "brain": (2, 8),
        "clear": (40, 140), "chromophobe": (30, 100), "papillary": (8, 30), "urine": (0, 6),
    },
    "portal": {
        "aorta": (85, 140), "vein": (75, 135), "portal": (95, 150), "cortex": (85, 155),
        "medulla": (70, 145), "liver": (42, 75), "spleen": (52, 90), "pancreas": (35, 65),
        "bowel": (32, 65), "adrenal": (28, 60), "muscle": (6, 18), "brain": (4, 10),
        "clear": (35, 100), "chromophobe": (32, 95), "papillary": (16, 42), "urine": (0, 40),
    },
    "excretory": {
        "aorta": (45, 85), "vein": (45, 85), "portal": (45, 85), "cortex": (55, 110),
        "medulla": (60, 120), "liver": (22, 45), "spleen": (32, 55), "pancreas": (18, 40),
        "bowel": (18, 42), "adrenal": (10, 35), "muscle": (5, 15), "brain": (3, 8),
        "clear": (35, 65), "chromophobe": (25, 80), "papillary": (18, 42), "urine": (150, 1400),
    },
}  # fmt: skip
"""By phase: unenhanced, 25 to 45 s, 60 to 110 s, and 3 to 10 min after the injection."""

PHASE_SHARE = {"none": 0.27, "arterial": 0.25, "portal": 0.33, "excretory": 0.15}

UNDERLYING = {
    "aorta": "blood", "vein": "blood", "portal": "blood", "cortex": "kidney", "medulla": "kidney",
    "clear": "tumor", "chromophobe": "tumor", "papillary": "tumor", "urine": "water",
}  # fmt: skip
"""The unenhanced tissue of each that is only told apart by its enhancement; urine is like water."""

UPTAKE = (0.75, 1.4)
STEATOSIS_HU = (-45.0, -10.0)
"""A fatty liver is so much darker in every phase."""


def draw_tissues(rng: np.random.Generator, phase: str, fatty_liver: bool) -> dict[str, float]:
    """Draw the HU of every tissue of a patient.

    Args:
        rng: makes the draws.
        phase: a key of `ENHANCEMENT`.
        fatty_liver: whether the patient has steatosis.
    """
    plain = {tissue: rng.uniform(*span) for tissue, span in UNENHANCED.items()}
    if fatty_liver:
        plain["liver"] += rng.uniform(*STEATOSIS_HU)
    hu = plain | {tissue: plain[under] for tissue, under in UNDERLYING.items()}
    uptake = rng.uniform(*UPTAKE)
    for tissue, span in ENHANCEMENT[phase].items():
        hu[tissue] += uptake * rng.uniform(*span)
    # Before the agent reaches the medulla, the cortex is never the darker one.
    if phase == "arterial":
        hu["medulla"] = min(hu["medulla"], hu["cortex"] - 15)
    return hu
