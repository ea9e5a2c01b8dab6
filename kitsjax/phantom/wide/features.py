"""What a case of the wide phantom shows: the part of the body, and independent features of each.

Rare findings are more frequent here than in patients, so that a few hundred cases hold each of them
several times; `docs/synthetic.md` has the prevalences.
"""

from typing import NamedTuple

import numpy as np

Range = tuple[float, float]


class Region(NamedTuple):
    """A part of the body that a scan covers.

    Attributes:
        share: probability.
        top_mm: range of the scan's upper end, z in mm from the middle between the kidneys.
        bottom_mm: range of its lower end.
        kidneys: whether kidneys may be in view.
    """

    share: float
    top_mm: Range
    bottom_mm: Range
    kidneys: bool


REGIONS = {
    "abdomen": Region(0.36, (-200, -115), (95, 190), True),
    "abdomen and pelvis": Region(0.26, (-200, -115), (250, 330), True),
    "chest and abdomen": Region(0.12, (-330, -240), (80, 190), True),
    "part of the kidneys": Region(0.05, (-190, -30), (-10, 60), True),
    "chest": Region(0.10, (-380, -290), (-185, -120), False),
    "pelvis": Region(0.07, (125, 160), (250, 330), False),
    "head": Region(0.04, (-110, -90), (60, 120), False),
}
"""The head's millimeters count from its own middle."""

SCAN_FEATURES = {
    "arms": 0.2, "table": 0.8, "zoomed": 0.15, "sharp kernel": 0.2, "streaks": 0.2, "metal": 0.06,
    "motion": 0.15, "cupping": 0.3, "padding circle": 0.35,
}  # fmt: skip

BODY_FEATURES = {
    "steatosis": 0.25, "ascites": 0.08, "effusion": 0.12, "oral contrast": 0.3,
    "liver lesions": 0.25, "liver tip": 0.3, "accessory spleen": 0.2, "adrenal nodule": 0.15,
    "gallstones": 0.12, "no gallbladder": 0.12, "lymph nodes": 0.12, "aneurysm": 0.05,
    "plaque": 0.4, "catheter": 0.1,
}  # fmt: skip

KIDNEY_FEATURES = {
    "nephrectomy": 0.07, "no kidneys": 0.02, "horseshoe": 0.03, "pelvic kidney": 0.03,
    "duplicated": 0.06, "atrophy": 0.08, "hydronephrosis": 0.09, "extrarenal pelvis": 0.35,
    "stones": 0.12, "stent": 0.05, "sinus lipomatosis": 0.15, "stranding": 0.25,
    "polycystic": 0.02, "tumors": 0.5, "cysts": 0.45,
}  # fmt: skip
"""These are drawn for scans whose region shows kidneys."""

FEATURES = {**SCAN_FEATURES, **BODY_FEATURES, **KIDNEY_FEATURES}


def draw_features(rng: np.random.Generator) -> tuple[str, frozenset[str]]:
    """Draw the region, a key of `REGIONS`, and the features, keys of `FEATURES`."""
    shares = [region.share for region in REGIONS.values()]
    region = str(rng.choice(list(REGIONS), p=shares))
    # All are drawn, so that the region does not change the others.
    drawn = {name for name, share in FEATURES.items() if rng.random() < share}
    if "zoomed" in drawn:
        # The circle of a small field of view lies within the body, where no scanner pads.
        drawn.discard("padding circle")
    if not REGIONS[region].kidneys:
        drawn -= set(KIDNEY_FEATURES)
    if "no kidneys" in drawn:
        drawn -= set(KIDNEY_FEATURES) - {"no kidneys"}
    return region, frozenset(drawn)
