"""Scoring of files: the golden case, failures collected, processes, CSV and table."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kitsjax.data.geometry import kits_geometry
from kitsjax.data.volume import write_label
from kitsjax.errors import InputError
from kitsjax.evaluate import scoring
from kitsjax.evaluate.scoring import (
    Row,
    Scores,
    format_table,
    mean_scores,
    score_case,
    score_folder,
    write_scores,
)
from kitsjax.labels import CYST, EVALUATION_CLASSES, KIDNEY, TUMOR

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
SPACING_MM = (3.0, 0.8, 0.8)
SHAPE = (6, 16, 20)


def write(path, label, spacing_mm=SPACING_MM):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label(path, label, kits_geometry(label.shape, spacing_mm))
    return path


def case(seed):
    """A label with a kidney, a tumor and a cyst, somewhere."""
    z, y, x = np.random.default_rng(seed).integers(0, 4, 3)
    label = np.zeros(SHAPE, np.uint8)
    label[z : z + 3, y : y + 10, x : x + 12] = KIDNEY
    label[z : z + 2, y : y + 3, x : x + 3] = TUMOR
    label[z : z + 2, y + 6 : y + 9, x + 6 : x + 9] = CYST
    return label


@pytest.fixture
def folders(tmp_path):
    """Three cases predicted: perfectly, shifted, and without its tumor."""
    predicted = [case(0), np.roll(case(1), 1, axis=2), case(2)]
    predicted[2][predicted[2] == TUMOR] = KIDNEY
    for i, label in enumerate(predicted):
        write(tmp_path / f"predictions/case_0000{i}.nii.gz", label)
    truths = {
        f"case_0000{i}": write(tmp_path / f"truth/case_0000{i}/label.nii.gz", case(i))
        for i in range(3)
    }
    return tmp_path / "predictions", truths


def test_scores_of_classes_by_hand():
    truth, prediction = np.zeros((2, 4, 8, 8), np.uint8)
    truth[1:3, 1:3, 1:5] = KIDNEY
    truth[1:3, 1:3, 5:7] = TUMOR
    prediction[1:3, 1:3, 1:7] = KIDNEY
    prediction[1:3, 1:3, 5:7] = CYST
    scores = score_case(prediction, truth, (1.0, 1.0, 1.0))
    assert scores["kidney_and_mass"] == (1, 1)
    assert scores["mass"] == (1, 1)
    assert scores["tumor"] == (0, 0)


def test_empty_labels_score_one():
    nothing = np.zeros((2, 3, 4), np.uint8)
    assert set(score_case(nothing, nothing, SPACING_MM).values()) == {Scores(1, 1)}
    one = nothing.copy()
    one[0, 0, 0] = TUMOR
    assert set(score_case(one, nothing, SPACING_MM).values()) == {Scores(0, 0)}


def test_the_crop_changes_nothing():
    a, b = case(3), case(4)
    margin = ((1, 7), (5, 0), (0, 9))
    assert score_case(np.pad(a, margin), np.pad(b, margin), SPACING_MM) == score_case(
        a, b, SPACING_MM
    )


def test_labels_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        score_case(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), SPACING_MM)


def test_folder_of_cases(folders):
    rows, failures = score_folder(*folders, progress=False)
    assert failures == []
    assert [row.case_id for row in rows] == ["case_00000", "case_00001", "case_00002"]
    assert set(rows[0].scores.values()) == {Scores(1, 1)}
    assert 0 < rows[1].scores["tumor"].dice < 1
    assert rows[2].scores["tumor"] == (0, 0)
    assert rows[2].scores["kidney_and_mass"] == (1, 1)


def test_processes_give_the_same_rows_and_failures(folders):
    predictions, truths = folders
    (predictions / "case_00001.nii.gz").write_text("not an image")
    alone = score_folder(predictions, truths, workers=1, progress=False)
    assert score_folder(predictions, truths, workers=2, progress=False) == alone
    assert len(alone[0]) == 2
    assert len(alone[1]) == 1


def die(files):
    os._exit(1)


def test_killed_processes_fail_their_cases(folders, monkeypatch):
    monkeypatch.setattr(scoring, "_score_files", die)
    rows, failures = score_folder(*folders, workers=2, progress=False)
    assert rows == []
    assert [failure.case_id for failure in failures] == [f"case_0000{i}" for i in range(3)]
    assert "fewer workers" in failures[0].message


def test_a_bad_case_is_named_and_the_rest_is_scored(folders, tmp_path):
    predictions, truths = folders
    whole = (predictions / "case_00001.nii.gz").read_bytes()
    (predictions / "case_00001.nii.gz").write_bytes(whole[: len(whole) // 2])
    truths["case_00003"] = truths["case_00000"]
    write(predictions / "case_00004.nii.gz", case(0))
    write(predictions / "case_00005.nii.gz", case(0)[:, :, :-1])
    truths["case_00005"] = truths["case_00000"]
    write(predictions / "case_00006.nii.gz", case(0), (3.0, 0.8, 0.9))
    truths["case_00006"] = truths["case_00000"]
    rows, failures = score_folder(predictions, truths, progress=False)
    assert [row.case_id for row in rows] == ["case_00000", "case_00002"]
    messages = dict(failures)
    assert sorted(messages) == [f"case_0000{i}" for i in (1, 3, 4, 5, 6)]
    assert "case_00001.nii.gz" in messages["case_00001"]
    assert "has no prediction" in messages["case_00003"]
    assert "has no truth" in messages["case_00004"]
    for mismatched in ("case_00005", "case_00006"):
        assert f"{mismatched}.nii.gz" in messages[mismatched]
        assert str(truths["case_00000"]) in messages[mismatched]
    assert not any("\n" in message for message in messages.values())


def test_label_values_outside_the_classes_fail_the_case(folders):
    predictions, truths = folders
    path = predictions / "case_00000.nii.gz"
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[-1] = 7
    path.write_bytes(gzip.compress(bytes(data)))
    rows, failures = score_folder(predictions, truths, progress=False)
    assert len(rows) == 2
    assert "7" in failures[0].message


def test_predictions_by_name(folders):
    predictions, truths = folders
    named = {"case_00000": predictions / "case_00000.nii.gz"}
    rows, failures = score_folder(named, {"case_00000": truths["case_00000"]}, progress=False)
    assert ([row.case_id for row in rows], failures) == (["case_00000"], [])


def test_a_missing_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        score_folder(tmp_path / "nowhere", {}, progress=False)


def rows_of(*numbers):
    return [
        Row(f"case_0000{i}", {name: Scores(n, n / 2) for name in EVALUATION_CLASSES})
        for i, n in enumerate(numbers)
    ]


def test_csv_is_the_official_one(tmp_path):
    scores = [Scores(0.1, 0.4), Scores(0.2, 0.5), Scores(1 / 3, 0.6)]
    rows = [Row("case_00000", dict(zip(EVALUATION_CLASSES, scores, strict=True))), *rows_of(0)]
    write_scores(tmp_path / "scores.csv", rows)
    assert (tmp_path / "scores.csv").read_text() == (
        "caseID,Dice_kidney,Dice_masses,Dice_tumor,SD_kidney,SD_masses,SD_tumor\n"
        "case_00000,0.10000000,0.20000000,0.33333333,0.40000000,0.50000000,0.60000000\n"
        "case_00000,0.00000000,0.00000000,0.00000000,0.00000000,0.00000000,0.00000000\n"
        "average,0.05000000,0.10000000,0.16666667,0.20000000,0.25000000,0.30000000\n"
    )
    write_scores(tmp_path / "scores.csv", [])
    assert (tmp_path / "scores.csv").read_text().count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_csv_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"scores\.csv: cannot write"):
        write_scores(tmp_path / "file" / "scores.csv", rows_of(1))
    (tmp_path / "scores.csv").mkdir()
    with pytest.raises(InputError, match=r"scores\.csv: cannot write"):
        write_scores(tmp_path / "scores.csv", rows_of(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "scores.csv"]


def test_means_go_into_json():
    means = mean_scores(rows_of(0.5, 1.0))
    assert json.loads(json.dumps(means)) == {
        name: {"dice": 0.75, "surface_dice": 0.375} for name in EVALUATION_CLASSES
    }
    with pytest.raises(InputError, match="no case was scored"):
        mean_scores([])


def test_table():
    good, bad = mean_scores(rows_of(0.9714)), mean_scores(rows_of(0.5))
    good["tumor"]["dice"] = 0.84
    table = format_table({"network": good, "HU threshold": bad}).splitlines()
    assert table[0].split() == ["Dice", "Surface", "Dice"]
    assert table[1].split() == ["Kidney", "+", "Masses", "Masses", "Tumor"] * 2
    assert table[2].split() == ["network", "0.971", "0.971", "0.840", *["0.486"] * 3]
    assert table[3].split() == ["HU", "threshold", *["0.500"] * 3, *["0.250"] * 3]
    assert len({len(line) for line in table[1:]}) == 1


def test_scoring_needs_no_jax():
    program = "import sys, kitsjax.evaluate.scoring; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data for development checks is absent")
def test_golden_case():
    golden = json.loads((DATA / "golden_case_00021.json").read_text())
    rows, failures = score_folder(
        DATA / "predictions",
        {golden["case"]: DATA / "kits21/case_00021/aggregated_MAJ_seg.nii.gz"},
        progress=False,
    )
    assert failures == []
    for name, expected in golden["against_majority"].items():
        assert rows[0].scores[name] == pytest.approx(expected, abs=1e-9)
