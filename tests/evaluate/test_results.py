"""The files of an evaluation: official tables, round trip, damage."""

import json
import math

import pytest

from kitsjax.errors import InputError
from kitsjax.evaluate.results import (
    Evaluation,
    Failure,
    Lesion,
    Score,
    read_evaluation,
    write_evaluation,
)
from kitsjax.labels import EVALUATION_CLASSES


def score(case_id, name, against="majority", dice=0.5, surface_dice=0.25, hausdorff=1.5):
    return Score(case_id, name, against, 1, dice, surface_dice, hausdorff, 10.0, 11.0, 1)


def case(case_id, against, dices, surface_dices):
    return [
        score(case_id, *row)
        for row in zip(EVALUATION_CLASSES, [against] * 3, dices, surface_dices, strict=True)
    ]


@pytest.fixture
def evaluation():
    return Evaluation(
        scores=(
            *case("case_00000", "majority", [0.1, 0.2, 1 / 3], [0.4, 0.5, 0.6]),
            *case("case_00000", "individual", [0.0, 0.1, 0.2], [0.3, 0.4, 0.5]),
            *case("case_00001", "majority", [0.0] * 3, [0.0] * 3),
        ),
        samples=(score("case_00000", "tumor", "group_0/kidney_i1a1_cyst_tumor.nii.gz"),),
        lesions=(
            Lesion("case_00000", "prediction", "cyst", 1, 0.1, "false", *[math.nan] * 3, 7),
        ),
        failures=(Failure("case_00002", 'a "bad", file'),),
        missing=("case_00003",),
        predictions="/somewhere",
        dataset="/elsewhere",
        versions={"kitsjax": "0"},
    )  # fmt: skip


def test_official_tables(tmp_path, evaluation):
    write_evaluation(tmp_path, evaluation)
    assert (tmp_path / "evaluation.csv").read_text() == (
        "caseID,Dice_kidney,Dice_masses,Dice_tumor,SD_kidney,SD_masses,SD_tumor\n"
        "case_00000,0.10000000,0.20000000,0.33333333,0.40000000,0.50000000,0.60000000\n"
        "case_00001,0.00000000,0.00000000,0.00000000,0.00000000,0.00000000,0.00000000\n"
        "average,0.05000000,0.10000000,0.16666667,0.20000000,0.25000000,0.30000000\n"
    )
    individual = (tmp_path / "evaluation_samples.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in individual] == ["caseID", "case_00000", "average"]
    assert individual[1].endswith("0.30000000,0.40000000,0.50000000")


def test_an_earlier_official_table_of_something_else_goes(tmp_path, evaluation):
    write_evaluation(tmp_path, evaluation)
    write_evaluation(tmp_path, Evaluation(scores=evaluation.scores[:3]))
    assert not (tmp_path / "evaluation_samples.csv").exists()
    assert (tmp_path / "evaluation.csv").exists()


def test_what_was_written_is_read_to_the_last_digit(tmp_path, evaluation):
    write_evaluation(tmp_path, evaluation)
    read = read_evaluation(tmp_path)
    # nan is not equal to itself; its text is.
    assert repr(read) == repr(evaluation)
    assert read.scores[2].dice == 1 / 3


def test_tables_by_class(evaluation):
    assert evaluation.case_ids == ["case_00000", "case_00001"]
    assert evaluation.against == ["majority", "individual"]
    assert evaluation.table("individual", "surface_dice") == {
        "kidney_and_mass": {"case_00000": 0.3},
        "mass": {"case_00000": 0.4},
        "tumor": {"case_00000": 0.5},
    }


def test_no_evaluation_there(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"holds no evaluation\.json"):
            read_evaluation(folder)


@pytest.mark.parametrize("name", ["scores.csv", "samples.csv", "lesions.csv", "evaluation.json"])
@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "[1, 2]", "{}", "\0"])
def test_damaged_files_are_named(tmp_path, evaluation, name, text):
    write_evaluation(tmp_path, evaluation)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=rf"{name}: .*run evaluate again"):
        read_evaluation(tmp_path)


def test_a_file_gone_or_a_row_cut_short_is_named(tmp_path, evaluation):
    write_evaluation(tmp_path, evaluation)
    path = tmp_path / "scores.csv"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match=r"scores\.csv"):
        read_evaluation(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"scores\.csv: cannot read"):
        read_evaluation(tmp_path)


def test_a_newer_format_is_refused(tmp_path, evaluation):
    write_evaluation(tmp_path, evaluation)
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(InputError, match="newer than"):
        read_evaluation(tmp_path)


def test_nothing_half_written_where_writing_is_impossible(tmp_path, evaluation):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_evaluation(tmp_path / "file", evaluation)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
