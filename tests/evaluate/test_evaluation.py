"""Scoring of folders: KiTS21's annotations, single labels, and all that can be wrong with files."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from kitsjax.data.annotation_samples import draw_samples
from kitsjax.data.instances import read_instances
from kitsjax.data.kits import find_cases
from kitsjax.data.paint_instances import paint_sample
from kitsjax.errors import InputError
from kitsjax.evaluate import evaluation
from kitsjax.evaluate.evaluation import evaluate
from kitsjax.evaluate.scoring import measure_label, score_case
from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_label
from kitsjax.image.write_nifti import write_label
from kitsjax.labels import CYST, EVALUATION_CLASSES, KIDNEY, TUMOR

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
SPACING_MM = (3.0, 0.8, 0.8)
SHAPE = (6, 16, 20)
KINDS = {"kidney": KIDNEY, "tumor": TUMOR, "cyst": CYST}


def write(path, label, spacing_mm=SPACING_MM):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label(path, label.astype(np.uint8), kits_header(label.shape, spacing_mm))
    return path


def draw(seed):
    """{(kind, instance): mask} of a kidney with a tumor and a cyst in it, somewhere."""
    z, y, x = np.random.default_rng(seed).integers(0, 3, 3)
    masks = {name: np.zeros(SHAPE, bool) for name in KINDS}
    masks["kidney"][z : z + 3, y : y + 10, x : x + 12] = True
    masks["tumor"][z : z + 2, y : y + 3, x : x + 3] = True
    masks["cyst"][z : z + 2, y + 6 : y + 9, x + 6 : x + 9] = True
    return masks


def merge(masks):
    label = np.zeros(SHAPE, np.uint8)
    for name in ("kidney", "cyst", "tumor"):
        label[masks[name]] = KINDS[name]
    return label


def write_case(root, number, annotated=True, name="aggregated_MAJ_seg.nii.gz"):
    """A case whose second of three annotators is right and whose others err one voxel each way."""
    folder = root / f"case_{number:05d}"
    masks = draw(number)
    write(folder / name, merge(masks))
    if annotated:
        for kind, mask in masks.items():
            for annotation, shift in enumerate((-1, 0, 1), 1):
                file = f"segmentations/{kind}_instance-1_annotation-{annotation}.nii.gz"
                write(folder / file, np.roll(mask, shift, axis=2))
    return folder


@pytest.fixture
def places(tmp_path):
    """Three cases predicted: perfectly, shifted, and without its tumor."""
    predicted = [merge(draw(0)), np.roll(merge(draw(1)), 1, axis=2), merge(draw(2))]
    predicted[2][predicted[2] == TUMOR] = KIDNEY
    for i, label in enumerate(predicted):
        write_case(tmp_path / "data", i)
        write(tmp_path / f"predictions/case_{i:05d}.nii.gz", label)
    return tmp_path / "data", tmp_path / "predictions"


def run(places, **options):
    data, predictions = places
    options = {"workers": 1, "progress": False} | options
    return evaluate(find_cases(data, images=False), predictions, **options)


def test_a_row_each_case_class_and_truth(places):
    found = run(places)
    assert (found.failures, found.missing) == ((), ())
    assert [s[:4] for s in found.scores] == [
        (f"case_0000{i}", name, against, samples)
        for i in range(3)
        for against, samples in (("majority", 1), ("individual", 15))
        for name in EVALUATION_CLASSES
    ]
    assert len(found.samples) == 3 * 15 * 3
    dice = found.table("majority")
    assert [dice[name]["case_00000"] for name in EVALUATION_CLASSES] == [1, 1, 1]
    assert dice["tumor"]["case_00002"] == 0
    assert dice["kidney_and_mass"]["case_00002"] == 1
    # A third of the samples' annotations are right, the others are off by a voxel.
    assert 0.7 < found.table("individual")["tumor"]["case_00000"] < 1
    assert {s.tumors for s in found.scores} == {1}
    assert [lesion[:6:5] for lesion in found.lesions if lesion.outcome == "missed"] == [
        ("case_00002", "missed")
    ]
    assert (found.predictions, found.dataset) == (str(places[1]), str(places[0]))


def test_individual_is_the_mean_over_painted_samples(places):
    found = run(places)
    folder = places[0] / "case_00001"
    prediction = read_label(places[1] / "case_00001.nii.gz")
    instances = read_instances(folder / "segmentations", prediction)
    samples = draw_samples(1, instances)
    measured = measure_label(prediction.array, SPACING_MM)
    rows = [
        score_case(
            measured,
            measure_label(paint_sample(instances, sample.choice, SHAPE), SPACING_MM),
            SPACING_MM,
        )
        for sample in samples
    ]
    for name in EVALUATION_CLASSES:
        (mean,) = [
            s for s in found.scores
            if s[:3] == ("case_00001", name, "individual")
        ]  # fmt: skip
        expected = np.mean([row[name] for row in rows], axis=0)
        np.testing.assert_allclose(mean[4:9], expected, rtol=1e-6)
    assert [s.against for s in found.samples if s.case_id == "case_00001"][::3] == [
        sample.name for sample in samples
    ]


def test_against_one_only(places):
    assert run(places, against=["majority"]).against == ["majority"]
    assert run(places, against=["individual"]).against == ["individual"]
    assert run(places, against=["majority"]).samples == ()


def test_processes_find_the_same(places):
    (places[1] / "case_00001.nii.gz").write_text("not an image")
    alone = run(places)
    # repr, since nan is not equal to itself.
    assert repr(run(places, workers=2)) == repr(alone)
    assert (len(alone.case_ids), len(alone.failures)) == (2, 1)


def test_the_majority_is_made_where_its_file_is_missing(places):
    before = run(places)
    for folder in places[0].iterdir():
        (folder / "aggregated_MAJ_seg.nii.gz").unlink()
    assert repr(run(places)) == repr(before)


def test_single_labels_of_kits23_and_kits19(tmp_path):
    write_case(tmp_path / "data", 588, annotated=False, name="segmentation.nii.gz")
    write(tmp_path / "predictions/case_00588.nii.gz", merge(draw(588)))
    places = tmp_path / "data", tmp_path / "predictions"
    found = run(places)
    assert found.against == ["majority"]
    assert {s.dice for s in found.scores} == {1.0}
    assert {s.tumors for s in found.scores} == {1}
    (failure,) = run(places, against=["individual"]).failures
    assert "no individual annotations" in failure.message


def test_samples_are_written_only_when_asked(places, tmp_path):
    run(places, samples_folder=tmp_path / "samples")
    files = sorted((tmp_path / "samples" / "case_00002").rglob("*.nii.gz"))
    assert len(files) == 15
    assert str(files[0].relative_to(tmp_path)).startswith("samples/case_00002/group_0/kidney_i1a")
    assert not list(places[0].rglob("group_0"))


def test_a_bad_case_is_named_and_the_rest_is_scored(places):
    data, predictions = places
    for number in range(3, 8):
        write_case(data, number)
    whole = (predictions / "case_00001.nii.gz").read_bytes()
    (predictions / "case_00001.nii.gz").write_bytes(whole[: len(whole) // 2])
    write(predictions / "case_00004.nii.gz", merge(draw(0))[:, :, :-1])
    write(predictions / "case_00005.nii.gz", merge(draw(0)), (3.0, 0.8, 0.9))
    write(predictions / "case_00006.nii.gz", merge(draw(6)) + np.uint8(4))
    write(predictions / "case_00007.nii.gz", merge(draw(7)))
    bad = data / "case_00007/segmentations/cyst_instance-1_annotation-2.nii.gz"
    write(bad, np.zeros((2, 3, 4)))
    write(predictions / "case_00099.nii.gz", merge(draw(0)))
    found = run(places)
    assert found.case_ids == ["case_00000", "case_00002"]
    assert found.missing == ("case_00003",)
    messages = dict(found.failures)
    assert sorted(messages) == [f"case_000{i:02d}" for i in (1, 4, 5, 6, 7, 99)]
    for number, words in {
        1: ("case_00001.nii.gz", "not a readable NIfTI file"),
        4: ("case_00004.nii.gz", "aggregated_MAJ_seg", "(6, 16, 19)", "(6, 16, 20)"),
        5: ("case_00005.nii.gz", "aggregated_MAJ_seg", "3, 0.8, 0.9", "3, 0.8, 0.8"),
        6: ("case_00006.nii.gz", "label values"),
        7: (str(bad), "case_00007.nii.gz", "shapes"),
        99: ("case_00099.nii.gz", "no case", "name it <case id>.nii.gz"),
    }.items():
        message = messages[f"case_000{number:02d}"]
        assert "\n" not in message
        for word in words:
            assert word in message, message


def test_a_flipped_file_of_the_same_world_scores_the_same(places):
    before = run(places)
    path = places[1] / "case_00001.nii.gz"
    image = nib.load(path)
    flip = np.diag([1, -1, 1, 1.0])
    flip[1, 3] = image.shape[1] - 1
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, ::-1], image.affine @ flip), path)
    assert nib.aff2axcodes(nib.load(path).affine) != nib.aff2axcodes(image.affine)
    assert repr(run(places).scores) == repr(before.scores)


def die(*_):
    os._exit(1)


def test_killed_processes_fail_their_cases(places, monkeypatch):
    monkeypatch.setattr(evaluation, "_evaluate_case", die)
    found = run(places, workers=2)
    assert found.scores == ()
    assert [f.case_id for f in found.failures] == [f"case_0000{i}" for i in range(3)]
    assert "fewer workers" in found.failures[0].message


def test_folders_that_will_not_do(places, tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        run((places[0], tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"case_00000.nii.gz: is a file"):
        run((places[0], places[1] / "case_00000.nii.gz"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no <case id>.nii.gz"):
        run((places[0], tmp_path / "empty"))


def test_a_case_predicted_twice_fails_alone(places):
    write(places[1] / "case_00000.nii", merge(draw(0)))
    found = run(places)
    assert found.case_ids == ["case_00001", "case_00002"]
    ((case_id, message),) = found.failures
    assert case_id == "case_00000"
    assert "case_00000.nii and case_00000.nii.gz are of one case" in message


def test_predictions_of_other_cases_and_probabilities_are_passed_over(places):
    write(places[1] / "case_00001_probabilities.nii.gz", merge(draw(1)))
    before = run(places)
    assert before.failures == ()
    cases = find_cases(places[0], images=False)
    found = evaluate(cases[1:], places[1], workers=1, others=["case_00000"], progress=False)
    assert (found.failures, found.missing) == ((), ())
    assert repr(found.scores) == repr(before.scores[6:])


@pytest.mark.parametrize("kind", ["kidney", "tumor"])
def test_annotations_that_lack_what_the_majority_has_fail_their_case(places, kind):
    folder = places[0] / "case_00001/segmentations"
    for path in folder.glob(f"{kind}*"):
        path.unlink()
    (failure,) = run(places).failures
    assert failure.case_id == "case_00001"
    assert f"{folder}: holds no {kind}, though aggregated_MAJ_seg" in failure.message
    assert run(places, against=["majority"]).failures == ()


def test_a_case_without_the_annotations_that_others_have_fails(places):
    write_case(places[0], 3, annotated=False)
    write(places[1] / "case_00003.nii.gz", merge(draw(3)))
    (failure,) = run(places).failures
    assert "case_00003: has no individual annotations; add them" in failure.message
    assert len(run(places, against=["majority"]).case_ids) == 4


def test_a_case_without_any_truth_is_missed_by_nobody(places):
    (places[0] / "case_00004").mkdir()
    assert (run(places).failures, run(places).missing) == ((), ())
    write(places[1] / "case_00004.nii.gz", merge(draw(4)))
    (failure,) = run(places).failures
    assert "case_00004: has neither label nor annotations" in failure.message


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data for development checks is absent")
def test_golden_case():
    golden = json.loads((DATA / "golden_case_00021.json").read_text())
    cases = [c for c in find_cases(DATA / "kits21", images=False) if c.case_id == golden["case"]]
    found = evaluate(cases, DATA / "predictions", workers=1, progress=False)
    assert [s.against for s in found.samples][::3] == golden["sample_files"]
    for against, key in (("majority", "against_majority"), ("individual", "mean_over_samples")):
        for name, (dice, surface_dice) in golden[key].items():
            scores = [
                found.table(against, c)[name][golden["case"]] for c in ("dice", "surface_dice")
            ]
            assert scores == pytest.approx([dice, surface_dice], abs=1e-9)
