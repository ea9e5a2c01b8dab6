"""Cases of the wide phantom: seeded, labels within the body, kidneys of true volume and HU."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from kitsjax.phantom.painting import Scene, ellipsoid
from kitsjax.phantom.wide import paint_kidney
from kitsjax.phantom.wide.body import Body
from kitsjax.phantom.wide.case import make_wide_case
from kitsjax.phantom.wide.features import REGIONS
from kitsjax.phantom.wide.masses import (
    CYST_RADIUS_MM,
    CYST_SHARE,
    PAINTERS,
    TUMOR_RADIUS_MM,
    TUMOR_SHARE,
    draw_radius,
)
from kitsjax.phantom.wide.patient import draw_patient
from kitsjax.phantom.wide.thorax import paint_effusion

MATRIX = 64


def patient_of(n):
    return draw_patient(np.random.default_rng([0, n]).spawn(2)[0])


def find_cases(wanted, count=3):
    """Find numbers of cases whose patient is wanted."""
    return [n for n in range(800) if wanted(patient_of(n))][:count]


@pytest.fixture(scope="module")
def abdomens():
    """Four whole abdomens of each phase, with their patients."""

    def whole(phase):
        return find_cases(
            lambda p: (
                p.phase == phase
                and p.region.startswith("abdomen")
                and not {"polycystic", "no kidneys", "zoomed", "pelvic kidney"} & p.features
            ),
            4,
        )

    numbers = [n for phase in ("none", "arterial", "portal", "excretory") for n in whole(phase)]
    return [(patient_of(n), make_wide_case(0, n, 96)) for n in numbers]


def test_equal_arguments_give_equal_wide_cases():
    one, same = make_wide_case(0, 3, 48), make_wide_case(0, 3, 48)
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.labels["MAJ"], same.labels["MAJ"])
    for other in (make_wide_case(1, 3, 48), make_wide_case(0, 4, 48)):
        assert other.spacing_mm != one.spacing_mm


@pytest.mark.parametrize("region", [name for name, r in REGIONS.items() if not r.kidneys])
def test_other_body_parts_have_no_label(region):
    (n,) = find_cases(lambda p: p.region == region, 1)
    case = make_wide_case(0, n, MATRIX)
    assert case.instances == []
    assert not case.labels["MAJ"].any()
    assert case.features[0] == region
    # It shows a body all the same.
    assert (case.image > -200).mean() > 0.1


def test_abdomens_without_kidneys_have_no_label():
    (n,) = find_cases(lambda p: "no kidneys" in p.features, 1)
    assert not make_wide_case(0, n, MATRIX).labels["MAJ"].any()


def test_labels_lie_within_the_body(abdomens):
    for _, case in abdomens:
        label = case.labels["MAJ"]
        smooth = ndimage.uniform_filter(case.image.astype(np.float32), 3)
        assert (smooth[label > 0] > -250).mean() > 0.98
        assert set(np.unique(label)) <= {0, 1, 2, 3}


def test_kidneys_have_a_kidneys_volume(abdomens):
    """Of parenchyma, with the masses within: an atrophic kidney to two large ones."""
    volumes = []
    for patient, case in abdomens:
        milliliters = (case.labels["MAJ"] == 1).sum() * np.prod(case.spacing_mm) / 1000
        count = 1 if "nephrectomy" in patient.features else 2
        volumes.append(milliliters / count)
        assert 25 < volumes[-1] < 330, case.features
    assert 110 < np.mean(volumes) < 210


def test_kidneys_have_their_phases_hu(abdomens):
    """Each patient's kidneys are near what was drawn: between its cortex and its medulla."""
    for patient, case in abdomens:
        inside = ndimage.binary_erosion(case.labels["AND"] == 1)
        found, hu = np.median(case.image[inside]), patient.hu
        low, high = sorted((hu["cortex"], hu["medulla"]))
        # The medulla's share, partial volume, cupping and noise of few voxels leave some HU.
        assert low - 25 < found < high + 25, (patient.phase, found, low, high)


def test_masses_are_there_where_drawn(abdomens):
    """A mass that finds no room, or is smaller than a voxel, is rare."""
    for label, feature in (("tumor", "tumors"), ("cyst", "cysts")):
        drawn = [c for p, c in abdomens if feature in p.features]
        others = [c for p, c in abdomens if feature not in p.features]
        assert not any(i.kind == label for c in others for i in c.instances)
        assert np.mean([any(i.kind == label for i in c.instances) for c in drawn]) > 0.7


@pytest.mark.parametrize("label", ["tumor", "cyst"])
def test_masses_have_their_sizes(label):
    """Diameters from 5 mm, and half of them on either side of the median."""
    median, _, low, high = TUMOR_RADIUS_MM if label == "tumor" else CYST_RADIUS_MM
    rng = np.random.default_rng(5)
    radii = np.array([draw_radius(rng, label) for _ in range(2000)])
    assert radii.min() == low == 2.5
    assert radii.max() <= high
    assert np.median(radii) == pytest.approx(median, rel=0.1)


def test_each_kind_of_mass_has_a_painter():
    assert {*TUMOR_SHARE, *CYST_SHARE} == set(PAINTERS)
    for shares in (TUMOR_SHARE, CYST_SHARE):
        assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", PAINTERS)
def test_every_kind_of_mass_is_painted_within(kind):
    """The painter changes voxels, and none outside of its level."""
    rng = np.random.default_rng(6)
    patient = patient_of(find_cases(lambda p: p.phase == "portal", 1)[0])
    scene = Scene(rng, (40, 40, 40), (1.5, 1.5, 1.5), (-30, -30, -30), (60, 60, 60))
    scene.image[...] = -100
    everywhere = np.full(scene.mm.shape[1:], -50, np.float32)
    body = Body(rng, scene, patient, everywhere, everywhere, -everywhere)
    level = ellipsoid(scene.mm, (0, 0, 0), (18, 18, 18))
    PAINTERS[kind](body, 18, level, scene.everywhere)
    box, inside = scene.to_voxels(level, scene.everywhere)
    image = scene.image[box]
    assert (abs(image[inside < -2] + 100) > 5).mean() > 0.9
    assert (image[inside > 3] == -100).all()


def test_features_show_in_the_picture():
    """A circle of padding, a small field of view, a horseshoe kidney in one piece."""
    (n,) = find_cases(lambda p: "padding circle" in p.features, 1)
    case = make_wide_case(0, n, MATRIX)
    assert (case.image[:, 0, 0] < -1020).all()
    (n,) = find_cases(lambda p: "zoomed" in p.features and p.region == "abdomen", 1)
    case = make_wide_case(0, n, MATRIX)
    assert np.mean(case.image > -300) > 0.7
    (n,) = find_cases(lambda p: "horseshoe" in p.features and p.region == "abdomen", 1)
    kidneys = make_wide_case(0, n, 96).labels["OR"] > 0
    # One component from the right to the left.
    parts, _ = ndimage.label(ndimage.binary_dilation(kidneys))
    sizes = np.bincount(parts.ravel())[1:]
    assert sizes.max() > 0.9 * sizes.sum()


def test_an_extrarenal_pelvis_is_no_kidney(monkeypatch):
    """It is urine before the hilum, takes nothing from the kidney, and has no label."""
    (n,) = find_cases(
        lambda p: (
            p.phase == "excretory"
            and p.region == "abdomen"
            and "extrarenal pelvis" in p.features
            and not {"zoomed", "tumors", "cysts", "hydronephrosis", "streaks"} & p.features
        ),
        1,
    )
    shown = make_wide_case(0, n, 96)
    make = paint_kidney._make_extrarenal_pelvis
    # The same draws with the pelvis far away: nothing else of the case differs.
    monkeypatch.setattr(
        paint_kidney, "_make_extrarenal_pelvis", lambda *args: abs(make(*args)) + 1000
    )
    hidden = make_wide_case(0, n, 96)
    pelvis = shown.image - hidden.image.astype(float) > 100
    ml = pelvis.sum() * np.prod(shown.spacing_mm) / 1000
    assert 2 < ml < 60
    inside = ndimage.binary_erosion(pelvis)
    assert np.median(shown.image[inside]) == pytest.approx(patient_of(n).hu["urine"], rel=0.25)
    kidney = shown.labels["MAJ"] == 1
    assert (kidney & pelvis).sum() < 0.1 * pelvis.sum()
    # Partial volume at the hilum is all that the kidney loses.
    assert kidney.sum() > 0.993 * (hidden.labels["MAJ"] == 1).sum()
    assert (ndimage.binary_dilation(kidney, iterations=3) & pelvis).any()


@pytest.mark.parametrize(("draw", "sides"), [(0.1, 1), (0.9, 2)])
def test_an_effusion_is_fluid_on_its_sides(draw, sides):
    """No voxel of it is half transparent, and the collapsed lung lies on the same sides."""
    scene = Scene(
        np.random.default_rng(0), (40, 64, 64), (3.0,) * 3, (-60.0, -96.0, -96.0), (1e9,) * 3
    )
    z, y, x = scene.mm
    lung = np.hypot(np.hypot(x, y), z) - 45
    scene.paint(lung, scene.everywhere, -840.0)
    rng = SimpleNamespace(random=lambda: draw, uniform=lambda low, high: (low + high) / 2)
    patient = SimpleNamespace(half_y_mm=0.0)
    paint_effusion(
        SimpleNamespace(scene=scene, rng=rng, patient=patient, hu={"muscle": 50.0}), lung
    )
    middle = scene.image[20]
    for column, is_wet in ((32 + 6, True), (32 - 6, sides == 2)):
        # The level is at the middle, and in the 12 mm before it lies the collapsed lung.
        assert middle[32 + 6, column] == pytest.approx(12.5 if is_wet else -840, abs=1)
        assert np.isclose(middle[32 - 5 : 32, column], 90, atol=1).any() == is_wet
        assert middle[32 - 8, column] == pytest.approx(-840, abs=1)
