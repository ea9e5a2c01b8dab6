"""Scoring of folders: rows, processes, and all that can be wrong with files."""

import os

import numpy as np
import pytest
from label_schemes import LIVER
from layouts import put
from predicted_folder import draw, merge, run, write, write_case, write_folders

from kitsjax.data.kits import find_cases
from kitsjax.data.open_dataset import open_dataset
from kitsjax.errors import InputError
from kitsjax.evaluate import evaluation
from kitsjax.evaluate.evaluate_case import evaluate_case
from kitsjax.evaluate.evaluation import BOTH, evaluate, find_predictions
from kitsjax.labels import KITS, MAJORITY


def test_a_row_each_case_class_and_truth(shared_folders, shared_evaluation):
    found = shared_evaluation
    assert (found.failures, found.missing) == ((), ())
    assert [s[:4] for s in found.scores] == [
        (f"case_0000{i}", name, against, samples)
        for i in range(3)
        for against, samples in (("majority", 1), ("individual", 15))
        for name in KITS.evaluation_keys
    ]
    assert len(found.samples) == 3 * 15 * 3
    dice = found.table("majority")
    assert [dice[name]["case_00000"] for name in KITS.evaluation_keys] == [1, 1, 1]
    assert dice["tumor"]["case_00002"] == 0
    assert dice["kidney_and_mass"]["case_00002"] == 1
    # A third of the samples' annotations are right, the others are off by a voxel.
    assert 0.7 < found.table("individual")["tumor"]["case_00000"] < 1
    assert {s.lesions for s in found.scores} == {1}
    assert [lesion[:6:5] for lesion in found.lesions if lesion.outcome == "missed"] == [
        ("case_00002", "missed")
    ]
    assert found.predictions == str(shared_folders.predictions)
    assert found.dataset == str(shared_folders.data)


def test_against_one_only(shared_folders):
    majority = run(shared_folders, against=["majority"])
    assert majority.against == ["majority"]
    assert majority.samples == ()
    assert run(shared_folders, against=["individual"]).against == ["individual"]


def test_processes_find_the_same(folders):
    (folders.predictions / "case_00001.nii.gz").write_text("not an image")
    alone = run(folders)
    # repr, since nan is not equal to itself.
    assert repr(run(folders, workers=2)) == repr(alone)
    assert (len(alone.case_ids), len(alone.failures)) == (2, 1)


def die(*_):
    os._exit(1)


def test_killed_processes_fail_their_cases(shared_folders, monkeypatch):
    monkeypatch.setattr(evaluation, "evaluate_case", die)
    found = run(shared_folders, workers=2)
    assert found.scores == ()
    assert [f.case_id for f in found.failures] == [f"case_0000{i}" for i in range(3)]
    assert "fewer workers" in found.failures[0].message


@pytest.mark.parametrize(
    ("against", "scheme", "reason"),
    [
        ([MAJORITY], KITS, "against the majority alone"),
        (BOTH, LIVER, "no case has annotations of these labels"),
    ],
)
def test_samples_that_do_not_exist_are_refused(shared_folders, tmp_path, against, scheme, reason):
    """Else the folder that was asked for would not be made, and nothing would say so."""
    cases = find_cases(shared_folders.data, images=False)
    with pytest.raises(InputError, match=f"{reason}.*leave out --write-samples"):
        evaluate(cases, shared_folders.predictions, against, 1, tmp_path / "s", scheme=scheme)
    assert not (tmp_path / "s").exists()


def fail_on_case_1(*arguments):
    if arguments[-1][0].case_id == "case_00001":
        raise KeyError("no such unit")
    return evaluate_case(*arguments)


def test_no_exception_takes_other_cases_along(shared_folders, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "evaluate_case", fail_on_case_1)
    cases = find_cases(shared_folders.data, images=False)
    predictions = shared_folders.predictions
    found = evaluate(cases, predictions, ["majority"], 1, log_folder=tmp_path)
    assert found.case_ids == ["case_00000", "case_00002"]
    path, log = predictions / "case_00001.nii.gz", tmp_path / "errors.log"
    line = f"{path}: KeyError: 'no such unit'; the full traceback is in {log}"
    assert found.failures == (("case_00001", line),)
    assert "in fail_on_case_1" in log.read_text()


def test_a_bad_case_fails_alone(folders):
    for number in range(3, 8):
        write_case(folders.data, number)
    predictions = folders.predictions
    whole = (predictions / "case_00001.nii.gz").read_bytes()
    (predictions / "case_00001.nii.gz").write_bytes(whole[: len(whole) // 2])
    write(predictions / "case_00004.nii.gz", merge(draw(0))[:, :, :-1])
    write(predictions / "case_00005.nii.gz", merge(draw(0)), (3.0, 0.8, 0.9))
    write(predictions / "case_00006.nii.gz", merge(draw(6)) + np.uint8(4))
    write(predictions / "case_00007.nii.gz", merge(draw(7)))
    bad = folders.data / "case_00007/segmentations/cyst_instance-1_annotation-2.nii.gz"
    write(bad, np.zeros((2, 3, 4)))
    write(predictions / "case_00099.nii.gz", merge(draw(0)))
    found = run(folders)
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


def test_folders_that_will_not_do(shared_folders, tmp_path):
    predictions = shared_folders.predictions
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        run(shared_folders._replace(predictions=tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"case_00000.nii.gz: is a file"):
        run(shared_folders._replace(predictions=predictions / "case_00000.nii.gz"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no <case id>.nii.gz"):
        run(shared_folders._replace(predictions=tmp_path / "empty"))


def test_a_case_predicted_twice_fails_alone(folders):
    write(folders.predictions / "case_00000.nii", merge(draw(0)))
    found = run(folders)
    assert found.case_ids == ["case_00001", "case_00002"]
    ((case_id, message),) = found.failures
    assert case_id == "case_00000"
    assert "case_00000.nii and case_00000.nii.gz are of one case" in message


def test_other_predictions_are_passed_over(folders, shared_evaluation):
    """Probability files, and predictions of cases that are not to be scored."""
    write(folders.predictions / "case_00001_probabilities.nii.gz", merge(draw(1)))
    before = run(folders)
    assert before.failures == ()
    cases = find_cases(folders.data, images=False)
    found = evaluate(cases[1:], folders.predictions, workers=1, others=["case_00000"])
    assert (found.failures, found.missing) == ((), ())
    assert repr(found.scores) == repr(before.scores[6:])
    assert repr(before.scores) == repr(shared_evaluation.scores)


def test_predictions_are_found_without_case(folders, shared_evaluation, caplog):
    first = folders.predictions / "case_00000.nii.gz"
    first.rename(first.with_name("CASE_00000.NII.GZ"))
    (folders.predictions / "readme.txt").touch()
    found = run(folders)
    assert (found.failures, found.missing) == ((), ())
    assert repr(found.scores) == repr(shared_evaluation.scores)
    (record,) = caplog.records
    assert "passed over 1 file: readme.txt" in record.getMessage()


def test_masks_may_keep_nnunets_channel(folders, shared_evaluation):
    """Where case X has no mask X, X_0000 is taken; beside it, it is a mask without a case."""
    for case in ("case_00000", "case_00001"):
        mask = folders.predictions / f"{case}.nii.gz"
        mask.rename(mask.with_name(f"{case}_0000.nii.gz"))
    found = run(folders)
    assert (found.failures, found.missing) == ((), ())
    assert repr(found.scores) == repr(shared_evaluation.scores)
    cases = find_cases(folders.data, images=False)
    others = [case.case_id for case in cases[:2]]
    assert evaluate(cases[2:], folders.predictions, workers=1, others=others).failures == ()
    write(folders.predictions / "case_00000.nii.gz", merge(draw(0)))
    ((case_id, message),) = run(folders).failures
    assert case_id == "case_00000_0000"
    assert "there is no case of that name in the data set" in message


def test_cases_of_any_name_and_layout_are_scored(folders, shared_evaluation, tmp_path):
    """The same masks and labels give the same scores, whatever names and folders they have."""
    masks = tmp_path / "masks"
    masks.mkdir()
    for case in find_cases(folders.data, images=False):
        if case.has_label:
            name = f"Patient {case.seed}.nii.gz"
            for folder in ("labels", "images"):
                put(tmp_path / "pairs" / folder / name, case.label)
            put(masks / name, folders.predictions / f"{case.case_id}.nii.gz")
    found = open_dataset(tmp_path / "pairs", complete=False)
    scored = evaluate(found.cases, masks, workers=1)
    assert (scored.failures, scored.missing) == ((), ())
    assert list(scored.against) == [MAJORITY]
    assert scored.dataset == str(tmp_path / "pairs")
    expected = shared_evaluation.table(MAJORITY, "surface_dice")
    for name, by_case in scored.table(MAJORITY, "surface_dice").items():
        assert set(by_case.values()) <= set(expected[name].values())
        assert len(by_case) == len(found.cases) > 0


def test_an_unreadable_case_fails_alone(user_folder, monkeypatch):
    # Another user may not be able to read the packages of the one who runs the tests.
    monkeypatch.setattr("kitsjax.evaluate.evaluation.version", lambda name: "1")
    folders = write_folders(user_folder)
    (folders.data / "case_00001").chmod(0)
    label = folders.data / "case_00002" / "aggregated_MAJ_seg.nii.gz"
    label.unlink()
    label.symlink_to("gone.nii.gz")
    found = run(folders)
    assert {score.case_id for score in found.scores} == {"case_00000"}
    assert [failure.message for failure in found.failures] == [
        f"{folders.data / 'case_00001'}: cannot read (Permission denied); make it readable",
        f"{label}: is a link that leads nowhere; give a file",
    ]


def test_probabilities_lie_beside_their_mask(tmp_path):
    """A mask may be named like probabilities; these are left out beside their mask only."""
    for name in ("a", "A_probabilities", "b_probabilities"):
        (tmp_path / f"{name}.nii.gz").touch()
    assert list(find_predictions(tmp_path)) == ["a", "b_probabilities"]
