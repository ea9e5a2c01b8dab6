"""Scores of a prediction by class: by hand, against samples, and the golden case."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kitsjax.data.annotation_samples import Sample, draw_samples
from kitsjax.data.instances import Instance, read_instances
from kitsjax.data.paint_instances import paint_sample
from kitsjax.evaluate import scoring
from kitsjax.evaluate.scoring import measure_label, measure_mask, score_case, score_samples
from kitsjax.image.read_nifti import read_label
from kitsjax.labels import CYST, KIDNEY, KITS, TUMOR, EvaluationClass

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
SPACING_MM = (3.0, 0.8, 0.8)
SHAPE = (40, 30, 30)


def score(prediction, truth, spacing_mm=SPACING_MM):
    measured = (measure_label(label, spacing_mm, KITS) for label in (prediction, truth))
    return score_case(*measured, spacing_mm, KITS)


def case(seed):
    """Draw a label map of a kidney, a tumor and a cyst, somewhere."""
    z, y, x = np.random.default_rng(seed).integers(0, 15, 3)
    label = np.zeros(SHAPE, np.uint8)
    label[z : z + 20, y : y + 12, x : x + 14] = KIDNEY
    label[z : z + 8, y : y + 5, x : x + 5] = TUMOR
    label[z + 9 : z + 14, y + 6 : y + 9, x + 6 : x + 9] = CYST
    return label


def test_scores_of_classes_by_hand():
    truth, prediction = np.zeros((2, 4, 8, 8), np.uint8)
    truth[1:3, 1:3, 1:5] = KIDNEY
    truth[1:3, 1:3, 5:7] = TUMOR
    prediction[1:3, 1:3, 1:7] = KIDNEY
    prediction[1:3, 1:3, 5:7] = CYST
    scores = score(prediction, truth, (2.0, 5.0, 10.0))
    # 24 and 8 voxels of 0.1 cm3.
    assert scores["kidney_and_mass"] == pytest.approx((1, 1, 0, 2.4, 2.4))
    assert scores["mass"] == pytest.approx((1, 1, 0, 0.8, 0.8))
    assert scores["tumor"] == pytest.approx((0, 0, np.nan, 0, 0.8), nan_ok=True)


def test_empty_labels():
    nothing, one = np.zeros((2, 2, 3, 4), np.uint8)
    one[0, 0, 0] = TUMOR
    for prediction, truth, expected in [
        (nothing, nothing, 1),
        (one, nothing, 0),
        (nothing, one, 0),
    ]:
        for found in score(prediction, truth).values():
            assert found[:2] == (expected, expected)
            assert np.isnan(found.hausdorff95_mm)


def test_a_class_is_scored_at_its_own_tolerance():
    truth, prediction = np.zeros((2, 30, 12, 12), np.uint8)
    truth[4:20, 2:9, 2:9] = prediction[4:20, 2:9, 3:10] = TUMOR
    # One voxel apart along x, by a step between the tolerances of masses and of tumor.
    scores = score(prediction, truth, (9.0, 9.0, 1.14))
    assert scores["tumor"].surface_dice == 1
    assert scores["mass"].surface_dice < 1
    assert scores["tumor"].dice == scores["mass"].dice


def test_the_surrounding_changes_nothing():
    a, b = case(3), case(4)
    margin = ((21, 7), (5, 0), (0, 9))
    padded = score(np.pad(a, margin), np.pad(b, margin))
    for name, expected in score(a, b).items():
        assert padded[name] == pytest.approx(expected, rel=1e-12)


def test_the_label_is_not_kept():
    tracemalloc.start()
    label = np.zeros((64, 256, 256), np.uint8)
    label[20:30, 50:60, 50:60] = TUMOR
    label[-1, -1, -1] = KIDNEY
    measured = measure_label(label, SPACING_MM, KITS)
    peak = tracemalloc.get_traced_memory()[1]
    del label
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert measured["kidney_and_mass"].mask.voxels == 1001
    assert peak < 64 * 256 * 256 * 1.2
    assert kept < 200_000


# Annotation samples


def overlapping_instances(seed):
    """Draw instances of every kind that overlap, some of their annotations empty."""
    rng = np.random.default_rng(seed)
    instances = []
    for kind, number in [
        ("kidney", 1), ("kidney", 2), ("tumor", 1), ("tumor", 2), ("cyst", 1), ("cyst", 2),
    ]:  # fmt: skip
        low, size = rng.integers(0, [15, 8, 8]), rng.integers(8, 20, 3)
        region = tuple(slice(a, a + n) for a, n in zip(low.tolist(), size.tolist(), strict=True))
        masks = rng.random((3, *size)) < rng.choice([0.2, 0.9], 3)[:, None, None, None]
        masks[rng.integers(0, 3)] &= rng.random() < 0.5
        instances.append(Instance(kind, number, region, masks))
    nowhere = (slice(0, 0),) * 3
    return [*instances, Instance("cyst", 3, nowhere, np.zeros((3, 0, 0, 0), bool))]


ALONE = replace(
    KITS,
    evaluation=tuple(
        EvaluationClass(name, name, labels, 1.0)
        for name, labels in (
            ("kidney", (KIDNEY,)), ("tumor", (TUMOR,)), ("cyst", (CYST,)),
            ("kidney_or_tumor", (KIDNEY, TUMOR)),
        )
    ),
)  # fmt: skip
"""KiTS's labels with classes that others are painted over."""


@pytest.mark.parametrize("scheme", [KITS, ALONE], ids=["KiTS", "alone"])
@pytest.mark.parametrize("seed", range(4))
def test_scores_of_samples_as_if_painted(seed, scheme):
    instances = overlapping_instances(seed)
    samples = draw_samples(seed, instances)
    predicted = measure_label(case(seed), SPACING_MM, scheme)
    rows = score_samples(predicted, instances, samples, SPACING_MM, scheme)
    assert len(rows) == len(samples) == 15
    for sample, row in zip(samples, rows, strict=True):
        painted = measure_label(paint_sample(instances, sample.choice, SHAPE), SPACING_MM, scheme)
        expected = score_case(predicted, painted, SPACING_MM, scheme)
        assert list(row) == list(scheme.evaluation_keys)
        for name in scheme.evaluation_keys:
            assert row[name] == pytest.approx(expected[name], abs=1e-12, nan_ok=True)


def test_equal_choices_are_scored_once(monkeypatch):
    scored = []
    original = scoring.score_class
    monkeypatch.setattr(
        scoring, "score_class", lambda each, *rest: scored.append(each.key) or original(each, *rest)
    )
    rng = np.random.default_rng(0)
    region = (slice(2, 12), slice(2, 12), slice(2, 12))
    instances = [
        Instance(kind, 1, region, rng.random((3, 10, 10, 10)) < 0.5) for kind in ("kidney", "tumor")
    ]
    samples = [Sample(f"{i}{j}", (i, j)) for i in range(3) for j in range(3)]
    rows = score_samples(
        measure_label(case(0), SPACING_MM, KITS), instances, samples, SPACING_MM, KITS
    )
    assert [scored.count(name) for name in KITS.evaluation_keys] == [9, 3, 3]
    assert rows[0]["tumor"] == rows[3]["tumor"] != rows[1]["tumor"]


def test_a_case_without_tumors():
    region = (slice(2, 12), slice(2, 12), slice(2, 12))
    kidney = Instance("kidney", 1, region, np.ones((3, 10, 10, 10), bool))
    predicted = measure_label(np.pad(np.ones((5, 5, 5), np.uint8), 4), SPACING_MM, KITS)
    (row,) = score_samples(predicted, [kidney], [Sample("only", (1,))], SPACING_MM, KITS)
    assert 0 < row["kidney_and_mass"].dice < 1
    assert row["tumor"][:2] == (1, 1)


def test_a_mask_is_measured_where_it_stands():
    label = case(1)
    box = (slice(1, 39), slice(0, 30), slice(3, 30))
    measured = measure_mask(label[box] == TUMOR, SPACING_MM, (1, 0, 3))
    whole = measure_label(label, SPACING_MM, KITS)
    found = score_case({**whole, "tumor": measured}, whole, SPACING_MM, KITS)["tumor"]
    assert found[:3] == (1, 1, 0)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data for development checks is absent")
def test_golden_case():
    golden = json.loads((DATA / "golden_case_00021.json").read_text())
    prediction = read_label(DATA / "predictions/case_00021.nii.gz")
    folder = DATA / "kits21/case_00021"
    truth = read_label(folder / "aggregated_MAJ_seg.nii.gz")
    instances = read_instances(folder / "segmentations", prediction)
    samples = draw_samples(21, instances)
    predicted = measure_label(prediction.array, prediction.spacing_mm, KITS)
    majority = score_case(
        predicted, measure_label(truth.array, truth.spacing_mm, KITS), truth.spacing_mm, KITS
    )
    rows = score_samples(predicted, instances, samples, truth.spacing_mm, KITS)
    assert [sample.name for sample in samples] == golden["sample_files"]
    for name in KITS.evaluation_keys:
        expected = golden["against_majority"][name]
        assert majority[name][:2] == pytest.approx(expected, abs=1e-9)
        mean = np.mean([row[name][:2] for row in rows], axis=0)
        assert mean == pytest.approx(golden["mean_over_samples"][name], abs=1e-9)
