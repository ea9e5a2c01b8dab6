"""Post-processing chosen by predictions whose faults are known, and stored in the model files."""

import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from kitsjax.config import load_settings, to_toml
from kitsjax.errors import InputError
from kitsjax.evaluate.results import Evaluation, Score
from kitsjax.evaluate.scoring import measure_label, score_case
from kitsjax.evaluate.write_results import write_evaluation
from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_label
from kitsjax.image.write_nifti import write_label
from kitsjax.infer.bundle import BUNDLE_NAME, read_bundle, save_bundle
from kitsjax.infer.postprocess import get_steps, postprocess
from kitsjax.labels import CYST, KIDNEY, KITS, MAJORITY, TUMOR
from kitsjax.run_lock import lock_folder
from kitsjax.run_record import RunRecord, read_record, write_record
from kitsjax.settings import PredictSettings
from kitsjax.tune import score_steps
from kitsjax.tune.score_steps import list_choices, score_choices
from kitsjax.tune.tune_run import apply_steps, tune_run

ROOT = Path(__file__).parents[2]
SHAPE, SPACING_MM = (12, 30, 40), (4.0, 2.0, 2.0)
CASES = 6


def true_label(number):
    """Two kidneys, one with a tumor that touches it, and a cyst in the other."""
    label = np.zeros(SHAPE, np.uint8)
    label[3:9, 6:16, 4:12] = KIDNEY
    label[3:9, 6:16, 25:33] = KIDNEY
    label[4:8, 8:14, 11 : 15 + number % 2] = TUMOR
    label[5:7, 9:12, 27:30] = CYST
    return label


def far_off(label, number):
    """A false tumor far from both kidneys."""
    label[9:12, 22:28, 15 : 18 + number] = TUMOR


def with_hole(label, number):
    label[5 : 6 + number % 2, 8, 6] = 0


def write_scores(run, names):
    """Write perfect scores, of which only the cases count here."""
    scores = [
        Score(name, key, MAJORITY, 1, 1.0, 1.0, 0.0, 1.0, 1.0, 0)
        for name in names
        for key in KITS.evaluation_keys
    ]
    write_evaluation(run / "scores", Evaluation(scores=tuple(scores)))


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Make a data set, and finished runs that hold out its cases with predictions so changed."""
    # Half of the values are enough, and take less time.
    few = {"least_lesion_ml": (0.1,), "largest_components": (2,), "fill_holes": ("volume",)}
    for name in list(score_steps.VALUES):
        monkeypatch.setitem(score_steps.VALUES, name, few.get(name, score_steps.VALUES[name][:1]))
    header = kits_header(SHAPE, SPACING_MM)

    def make(change, folds=1):
        settings = to_toml(load_settings(overrides=[f"data.root={tmp_path / 'data'}"]))
        names = [f"case_{n:05d}" for n in range(CASES)]
        for fold in range(folds):
            run = tmp_path / "run" / (f"fold_{fold}" if folds > 1 else "")
            own = names[fold::folds]
            for name in own:
                label = true_label(int(name[-5:]))
                write_label(tmp_path / "data" / name / "segmentation.nii.gz", label, header)
                change(label, int(name[-5:]))
                write_label(run / "predictions" / f"{name}.nii.gz", label, header)
            record = RunRecord(
                stage="finished", settings=settings, versions={}, train=[], held_out=own
            )
            write_record(run, record)
            write_scores(run, own)
            shutil.copy(ROOT / "notebooks" / "phantom.safetensors", run / BUNDLE_NAME)
        return tmp_path / "run"

    return make


def test_what_removes_far_off_lesions_is_chosen(make_run):
    tuned = tune_run(make_run(far_off), workers=1)
    (step,) = tuned.steps.items()
    # All three remove the same; the first of equal ones is kept.
    assert step == ("lesions_touch_organ", True)
    kept = tuned.rounds[0].kept
    assert (kept.better, kept.worse, tuned.cases, tuned.failures) == (CASES, 0, CASES, [])
    # Kidneys and their masses are then perfect.
    assert tuned.gain.mean == pytest.approx(kept.gain.mean)
    assert (kept.classes > 0).all()


def test_holes_are_filled_where_it_helps(make_run):
    def change(label, number):
        with_hole(label, number)
        far_off(label, number)

    assert tune_run(make_run(change), workers=1).steps == {
        "lesions_touch_organ": True, "fill_holes": "volume",
    }  # fmt: skip


def test_perfect_predictions_choose_nothing(make_run):
    tuned = tune_run(make_run(lambda label, number: None), workers=1)
    assert (tuned.steps, tuned.gain.mean) == ({}, 0)


def test_scores_are_those_of_each_choice(make_run, tmp_path):
    """Each combination, applied and scored on its own, on the whole volume."""

    def change(label, number):
        with_hole(label, number)
        far_off(label, number)
        label[0, 0, 0] = CYST
        # A part of the cyst is called a tumor, so that a majority decides.
        label[5, 9, 27:29] = TUMOR

    from kitsjax.data.kits import find_cases

    run = make_run(change)
    case = find_cases(tmp_path / "data", images=False)[1]
    path = run / "predictions" / f"{case.case_id}.nii.gz"
    choices, found = list_choices({}), score_choices({}, KITS, (case, path))
    truth = measure_label(true_label(1), SPACING_MM, KITS)
    prediction = read_label(path)
    assert len(found) == len(choices) == 64
    for choice, scores in list(zip(choices, found, strict=True))[::3]:
        settings = PredictSettings(**dict(zip(score_steps.STEPS, choice, strict=True)))
        label = postprocess(prediction.array, prediction.grid.voxel_mm3, settings, KITS)
        expected = score_case(measure_label(label, SPACING_MM, KITS), truth, SPACING_MM, KITS)
        np.testing.assert_allclose(scores, [each[:2] for each in expected.values()])


@pytest.mark.parametrize("name", ["least_lesion_certainty", "lesion_majority"])
def test_folds_of_other_post_processing(make_run, name):
    """Their predictions do not belong together, whatever step it is that one of them lacks."""
    folder = make_run(far_off, folds=2)
    path = folder / "fold_1" / BUNDLE_NAME
    bundle = read_bundle(path)
    predict = bundle.settings.predict.model_copy(update={name: 0.75})
    settings = bundle.settings.model_copy(update={"predict": predict})
    save_bundle(path, bundle.params, settings, bundle.provenance)
    with pytest.raises(InputError, match=f"fold_1: its model has another.*{name} = 0.75.*fold_0"):
        tune_run(folder, workers=1)


def test_the_choice_is_stored_in_all_folds(make_run):
    """A model's other settings and parameters stay; the provenance says on how many cases."""
    folder = make_run(far_off, folds=2)
    before = read_bundle(folder / "fold_0")
    tuned = tune_run(folder, workers=1)
    assert [run.name for run in tuned.runs] == ["fold_0", "fold_1"]
    apply_steps(tuned)
    for run in tuned.runs:
        after = read_bundle(run)
        steps = get_steps(before.settings.predict) | tuned.steps
        assert get_steps(after.settings.predict) == dict(
            sorted(steps.items(), key=lambda item: list(score_steps.STEPS).index(item[0]))
        )
        stored = after.provenance["postprocess"]
        assert (stored["steps"], stored["cases"]) == (tuned.steps, CASES)
        assert stored["gain"]["mean"] == tuned.gain.mean
        rest = {"predict": before.settings.predict}
        assert after.settings.model_copy(update=rest) == before.settings
        assert before.provenance.items() <= after.provenance.items()
        # The predictions are without the steps until the run goes on.
        assert read_record(run).stage == "predicting"
        assert read_record(run).postprocess == stored
    with pytest.raises(InputError, match=r"fold_0: its run is not finished; go on with it: bin/tr"):
        tune_run(folder, workers=1)
    for run in tuned.runs:
        write_record(run, read_record(run).model_copy(update={"stage": "finished"}))
    # Both models have them now, so they are tried no more.
    assert "lesions_touch_organ" not in {
        trial.name for each in tune_run(folder, workers=1).rounds for trial in each.trials
    }


def test_the_command_stores_only_if_asked(make_run, monkeypatch, capsys):
    folder = make_run(far_off)
    before = (folder / BUNDLE_NAME).read_bytes()

    def command(*arguments):
        words = ["postprocess.py", "--run", str(folder), "--workers", "1", *arguments]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "bin" / "postprocess.py"), run_name="__main__")
        return end.value.code, capsys.readouterr().out

    status, printed = command()
    assert (status, (folder / BUNDLE_NAME).read_bytes() == before) == (0, True)
    assert "chosen: predict.lesions_touch_organ = True" in printed
    assert "nothing is stored; add --apply" in printed
    status, printed = command("--apply")
    assert (status, "stored in 1 model file(s)" in printed) == (0, True)
    assert read_bundle(folder).settings.predict.lesions_touch_organ


def test_a_run_that_cannot_be_tuned(make_run, tmp_path):
    with pytest.raises(InputError, match=r"holds neither run\.json nor folds"):
        tune_run(tmp_path)
    folder = make_run(far_off, folds=2)
    (folder / "fold_0" / "predictions" / "case_00000.nii.gz").write_text("no mask")
    tuned = tune_run(folder, workers=1)
    assert (tuned.cases, len(tuned.failures)) == (CASES - 1, 1)
    # Two empty masks of it would score 1.
    (tmp_path / "data" / "case_00001" / "segmentation.nii.gz").unlink()
    tuned = tune_run(folder, workers=1)
    assert (tuned.cases, len(tuned.failures)) == (CASES - 2, 2)
    assert "case_00001: has neither label nor annotations" in tuned.failures[1]
    shutil.rmtree(tmp_path / "data" / "case_00003")
    with pytest.raises(InputError, match=r"has no case_00003, which .*fold_1 holds out"):
        tune_run(folder, workers=1)
    (folder / "fold_1" / "run.json").unlink()
    with pytest.raises(InputError, match="fold_1: its run is not finished"):
        tune_run(folder, workers=1)


def test_masks_of_an_earlier_model_do_not_choose(make_run):
    """A case that could not be predicted again keeps its mask, and has no score."""
    folder = make_run(far_off, folds=2)
    write_scores(folder / "fold_1", ["case_00001", "case_00005"])
    tuned = tune_run(folder, workers=1)
    assert tuned.cases == CASES - 1
    (line,) = tuned.failures
    assert line.startswith(f"case_00003: has no score in {folder / 'fold_1' / 'scores'}, and is")
    assert line.endswith("bin/train.py --resume")
    shutil.rmtree(folder / "fold_1" / "scores")
    assert len(tune_run(folder, workers=1).failures) == 3
    shutil.rmtree(folder / "fold_0" / "scores")
    with pytest.raises(InputError, match="no held-out case can be scored; case_00000: has no sc"):
        tune_run(folder, workers=1)


def test_steps_are_stored_in_all_folds_or_in_none(make_run):
    """A fold that is in use must not leave the others with steps that it lacks."""
    folder = make_run(far_off, folds=2)
    tuned = tune_run(folder, workers=1)
    files = [path for run in tuned.runs for path in (run / BUNDLE_NAME, run / "run.json")]
    before = [path.read_bytes() for path in files]
    with lock_folder(tuned.runs[1]), pytest.raises(InputError, match="fold_1"):
        apply_steps(tuned)
    assert [path.read_bytes() for path in files] == before
    apply_steps(tuned)
    for run in tuned.runs:
        assert get_steps(read_bundle(run).settings.predict).items() >= tuned.steps.items()


def test_a_full_disk_stores_in_no_fold(make_run, monkeypatch):
    """The second model file cannot be written: the first one stays as it is, too."""
    folder = make_run(far_off, folds=2)
    tuned = tune_run(folder, workers=1)
    files = [path for run in tuned.runs for path in (run / BUNDLE_NAME, run / "run.json")]
    before = [path.read_bytes() for path in files]

    def save(path, *args):
        if path.parent == tuned.runs[1]:
            raise InputError(f"{path}: cannot write")
        save_bundle(path, *args)

    monkeypatch.setattr("kitsjax.tune.tune_run.save_bundle", save)
    with pytest.raises(InputError, match="cannot write"):
        apply_steps(tuned)
    assert [path.read_bytes() for path in files] == before
    assert not [path for run in tuned.runs for path in run.glob(".*partial*")]


def test_the_choice_is_the_same_in_any_order(make_run, monkeypatch):
    """Whichever process is done first: the interval is drawn from the cases in their order."""
    folder = make_run(far_off)
    first = tune_run(folder, workers=1)

    def reverse(function, jobs, *_):
        return [(job, function(job)) for job in reversed(jobs)]

    monkeypatch.setattr("kitsjax.tune.tune_run.map_cases", reverse)
    assert repr(tune_run(folder).rounds) == repr(first.rounds)


def test_a_run_without_held_out_cases(make_run):
    folder = make_run(far_off)
    write_record(folder, read_record(folder).model_copy(update={"held_out": []}))
    with pytest.raises(InputError, match="holds out no case"):
        tune_run(folder, workers=1)
