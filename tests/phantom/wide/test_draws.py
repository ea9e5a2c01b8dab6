"""What the wide phantom draws: each feature as often as its table says, HU within their ranges."""

import numpy as np
import pytest

from kitsjax.phantom.wide.features import FEATURES, KIDNEY_FEATURES, REGIONS
from kitsjax.phantom.wide.kidneys import place_kidneys
from kitsjax.phantom.wide.patient import draw_patient
from kitsjax.phantom.wide.ranges import ENHANCEMENT, PHASE_SHARE, UNENHANCED, UPTAKE, draw_tissues
from kitsjax.phantom.wide.scan import MOST_SLICES, draw_scan

MANY = 4000


@pytest.fixture(scope="module")
def patients():
    return [draw_patient(np.random.default_rng([7, n])) for n in range(MANY)]


def as_often(found: int, share: float, of: int = MANY) -> bool:
    """Tell whether a count is within four standard deviations of its expectation."""
    return abs(found - share * of) <= 4 * (of * share * (1 - share)) ** 0.5


def test_regions_and_phases_are_as_often_as_said(patients):
    assert sum(region.share for region in REGIONS.values()) == pytest.approx(1)
    for name, region in REGIONS.items():
        assert as_often(sum(p.region == name for p in patients), region.share), name
    for name, share in PHASE_SHARE.items():
        assert as_often(sum(p.phase == name for p in patients), share), name


def test_features_are_as_often_as_said(patients):
    """Those of kidneys do among scans that may show some, and the padding where it is possible."""
    for name, share in FEATURES.items():
        drawn = patients
        if name in KIDNEY_FEATURES:
            drawn = [p for p in drawn if REGIONS[p.region].kidneys]
            if name != "no kidneys":
                drawn = [p for p in drawn if "no kidneys" not in p.features]
        if name == "padding circle":
            drawn = [p for p in drawn if "zoomed" not in p.features]
        assert as_often(sum(name in p.features for p in drawn), share, len(drawn)), name


def test_scans_without_kidneys_have_none(patients):
    rng = np.random.default_rng(0)
    for patient in patients[:600]:
        count = len(place_kidneys(rng, patient))
        if not REGIONS[patient.region].kidneys or "no kidneys" in patient.features:
            assert count == 0
        else:
            assert count == 1 if "nephrectomy" in patient.features else count == 2


def test_kidneys_out_of_a_region_are_out_of_view(patients):
    """A chest ends above every kidney and a pelvis begins below: nothing unlabeled is in view."""
    rng = np.random.default_rng(1)
    ends = {"chest": [], "pelvis": []}
    for patient in patients:
        if patient.region in ends:
            scan = draw_scan(rng, patient, 64)
            top = scan.first_mm[0] - scan.spacing_mm[0] / 2
            bottom = top + scan.spacing_mm[0] * scan.shape[0]
            ends[patient.region].append((top / patient.tall, bottom / patient.tall))
    # Scans and kidneys both go with the patient's height.
    kidneys = [
        (k.shape.center[0] + 1.1 * np.array([-1, 1]) * k.shape.half_mm[0]) / patient.tall
        for patient in patients[:1500]
        for k in place_kidneys(rng, patient)
        if not {"pelvic kidney", "horseshoe", "polycystic"} & patient.features
    ]
    assert max(bottom for _, bottom in ends["chest"]) < min(top for top, _ in kidneys)
    assert min(top for top, _ in ends["pelvis"]) > max(bottom for _, bottom in kidneys)


def test_scans_have_voxels_as_real_ones(patients):
    rng = np.random.default_rng(2)
    scans = [draw_scan(rng, patient, 512) for patient in patients]
    slices, pixels = (np.array([s.spacing_mm[k] for s in scans]) for k in (0, 1))
    assert slices.min() >= 0.5
    assert slices.max() == 7
    assert 1.5 <= np.median(slices) <= 3
    assert 0.19 < pixels.min() < pixels.max() < 1.2
    assert max(s.shape[0] for s in scans) <= MOST_SLICES


@pytest.mark.parametrize("phase", list(PHASE_SHARE))
def test_tissues_are_within_published_ranges(phase):
    rng = np.random.default_rng(3)
    for _ in range(300):
        hu = draw_tissues(rng, phase, fatty_liver=False)
        low, high = UNENHANCED["kidney"]
        least, most = ENHANCEMENT[phase].get("cortex", (0, 0))
        assert low + UPTAKE[0] * least <= hu["cortex"] <= high + UPTAKE[1] * most
        assert UNENHANCED["fat"][0] <= hu["fat"] <= UNENHANCED["fat"][1]
        if phase == "none":
            assert hu["cortex"] == hu["medulla"] == hu["kidney"]
            assert hu["aorta"] == hu["vein"] == hu["blood"]
        else:
            assert hu["cortex"] > hu["kidney"] + 40
        if phase == "arterial":
            assert hu["medulla"] <= hu["cortex"] - 15
            assert hu["aorta"] > hu["vein"]
        if phase == "excretory":
            assert hu["urine"] > 100


def test_a_fatty_liver_is_darker():
    plain, fatty = (draw_tissues(np.random.default_rng(4), "none", f) for f in (False, True))
    assert 10 <= plain["liver"] - fatty["liver"] <= 45
    assert plain["kidney"] == fatty["kidney"]
