"""One case: KiTS21's annotations, single labels, and what can be wrong with its files."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from predicted_folder import SHAPE, SPACING_MM, Folders, draw, merge, run, write, write_case

from kitsjax.data.annotation_samples import draw_samples
from kitsjax.data.instances import read_instances
from kitsjax.data.kits import find_cases
from kitsjax.data.paint_instances import paint_sample
from kitsjax.evaluate.evaluation import evaluate
from kitsjax.evaluate.scoring import measure_label, score_case
from kitsjax.image.read_nifti import read_label
from kitsjax.labels import KITS

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"


def test_individual_is_the_mean_over_samples(shared_folders, shared_evaluation):
    """The samples are painted as label maps and each of them is scored."""
    folder = shared_folders.data / "case_00001"
    prediction = read_label(shared_folders.predictions / "case_00001.nii.gz")
    instances = read_instances(folder / "segmentations", prediction)
    samples = draw_samples(1, instances)
    measured = measure_label(prediction.array, SPACING_MM, KITS)
    rows = [
        score_case(
            measured,
            measure_label(paint_sample(instances, sample.choice, SHAPE), SPACING_MM, KITS),
            SPACING_MM,
            KITS,
        )
        for sample in samples
    ]
    for name in KITS.evaluation_keys:
        (mean,) = [
            s for s in shared_evaluation.scores if s[:3] == ("case_00001", name, "individual")
        ]
        expected = np.mean([row[name] for row in rows], axis=0)
        np.testing.assert_allclose(mean[4:9], expected, rtol=1e-6)
    found = [s.against for s in shared_evaluation.samples if s.case_id == "case_00001"]
    assert found[::3] == [sample.name for sample in samples]


def test_a_missing_majority_label_is_made(folders, shared_evaluation):
    """Made from the annotations, it scores as the file does."""
    for folder in folders.data.iterdir():
        (folder / "aggregated_MAJ_seg.nii.gz").unlink()
    found = run(folders)
    # repr, since nan is not equal to itself.
    for rows in ("scores", "samples", "lesions", "failures", "missing"):
        assert repr(getattr(found, rows)) == repr(getattr(shared_evaluation, rows))


def test_single_labels_of_kits23_and_kits19(tmp_path):
    write_case(tmp_path / "data", 588, annotated=False, name="segmentation.nii.gz")
    write(tmp_path / "predictions/case_00588.nii.gz", merge(draw(588)))
    folders = Folders(tmp_path / "data", tmp_path / "predictions")
    found = run(folders)
    assert found.against == ["majority"]
    assert {s.dice for s in found.scores} == {1.0}
    assert {s.lesions for s in found.scores} == {1}
    (failure,) = run(folders, against=["individual"]).failures
    assert "no individual annotations" in failure.message


def test_samples_are_written_only_when_asked(folders, tmp_path):
    run(folders, samples_folder=tmp_path / "samples")
    files = sorted((tmp_path / "samples" / "case_00002").rglob("*.nii.gz"))
    assert len(files) == 15
    assert str(files[0].relative_to(tmp_path)).startswith("samples/case_00002/group_0/kidney_i1a")
    assert not list(folders.data.rglob("group_0"))


def test_a_flipped_file_scores_the_same(folders, shared_evaluation):
    """Its voxels lie at the same places in the world."""
    path = folders.predictions / "case_00001.nii.gz"
    image = nib.load(path)
    flip = np.diag([1, -1, 1, 1.0])
    flip[1, 3] = image.shape[1] - 1
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, ::-1], image.affine @ flip), path)
    assert nib.aff2axcodes(nib.load(path).affine) != nib.aff2axcodes(image.affine)
    assert repr(run(folders).scores) == repr(shared_evaluation.scores)


@pytest.mark.parametrize("kind", ["kidney", "tumor"])
def test_annotations_lacking_a_class_fail(folders, kind):
    """The majority label has the class, so files of the annotations were lost."""
    folder = folders.data / "case_00001/segmentations"
    for path in folder.glob(f"{kind}*"):
        path.unlink()
    (failure,) = run(folders).failures
    assert failure.case_id == "case_00001"
    assert f"{folder}: holds no {kind}, though aggregated_MAJ_seg" in failure.message
    assert run(folders, against=["majority"]).failures == ()


def test_a_case_without_annotations(folders, caplog):
    """It is scored against its label alone, and fails only if nothing but samples is asked for."""
    write_case(folders.data, 3, annotated=False)
    write(folders.predictions / "case_00003.nii.gz", merge(draw(3)))
    found = run(folders)
    assert (found.failures, len(found.case_ids)) == ((), 4)
    assert found.scored("individual") == set(found.case_ids) - {"case_00003"}
    told = "case_00003: no individual annotations, so scored against the majority alone"
    assert told in caplog.messages
    (failure,) = run(folders, against=["individual"]).failures
    assert "case_00003: has no individual annotations; add them" in failure.message
    assert len(run(folders, against=["majority"]).case_ids) == 4


def test_a_case_without_truth_fails_if_predicted(folders):
    (folders.data / "case_00004").mkdir()
    found = run(folders)
    assert (found.failures, found.missing) == ((), ())
    write(folders.predictions / "case_00004.nii.gz", merge(draw(4)))
    (failure,) = run(folders).failures
    assert "case_00004: has neither label nor annotations" in failure.message


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data for development checks is absent")
def test_golden_case():
    golden = json.loads((DATA / "golden_case_00021.json").read_text())
    cases = [c for c in find_cases(DATA / "kits21", images=False) if c.case_id == golden["case"]]
    found = evaluate(cases, DATA / "predictions", workers=1)
    assert [s.against for s in found.samples][::3] == golden["sample_files"]
    for against, key in (("majority", "against_majority"), ("individual", "mean_over_samples")):
        for name, (dice, surface_dice) in golden[key].items():
            scores = [
                found.table(against, c)[name][golden["case"]] for c in ("dice", "surface_dice")
            ]
            assert scores == pytest.approx([dice, surface_dice], abs=1e-9)


def test_a_tilted_case_fails_alone(folders):
    """Distances between its surfaces would be wrong."""
    tilt = np.eye(4)
    tilt[2, 1] = np.tan(np.radians(18.5))
    paths = [folders.predictions / "case_00001.nii.gz", *folders.data.glob("case_00001/*.gz")]
    for path in paths:
        image = nib.load(path)
        tilted = nib.Nifti1Image(np.asarray(image.dataobj), tilt @ image.affine)
        nib.save(tilted, path)
    found = run(folders, against=["majority"])
    assert found.case_ids == ["case_00000", "case_00002"]
    ((case_id, message),) = found.failures
    assert case_id == "case_00001"
    assert message.startswith(f"{paths[0]}: its axes are 18.5 degrees off perpendicular")
