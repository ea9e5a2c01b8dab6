"""The files of an evaluation: official tables, round trip, damage."""

import json
import math
from dataclasses import replace

import pytest

from kitsjax.errors import InputError
from kitsjax.evaluate.read_results import read_evaluation
from kitsjax.evaluate.results import (
    Evaluation,
    Failure,
    Lesion,
    Score,
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
        samples=tuple(
            score("case_00000", name, "group_0/kidney_i1a1_cyst_tumor.nii.gz")
            for name in EVALUATION_CLASSES
        ),
        lesions=(
            Lesion("case_00000", "prediction", "cyst", 1, 0.1, "false positive", *[math.nan] * 3, 7),
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
    with pytest.raises(InputError, match=rf"{name}: .*run bin/evaluate.py again"):
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
    with pytest.raises(InputError, match=f"^{path}: of format 99, newer than 1"):
        read_evaluation(tmp_path)


DAMAGE = {
    "class": ("scores.csv", "00000,mass,", "00000,liver,", "line 3: evaluation_class is 'liver'"),
    "against": ("scores.csv", "mass,majority", "mass,mine", "line 2: against is 'mine'"),
    "sample": ("samples.csv", "group_0/kidney_i1a1_cyst_tumor.nii.gz", "", "against is ''"),
    "case": ("scores.csv", "case_00000,tumor,maj", ",tumor,maj", "line 4: case_id is ''"),
    "samples": ("scores.csv", "majority,1,0.1,", "majority,0,0.1,", "line 2: samples is 0"),
    "integer": ("scores.csv", "majority,1,0.1,", "majority,1.0,0.1,", "samples is '1.0'"),
    "number": ("scores.csv", "majority,1,0.1,", "majority,1,x,", "line 2: dice is 'x'"),
    "high": ("scores.csv", "majority,1,0.1,", "majority,1,2.5,", "line 2: dice is 2.5"),
    "low": ("scores.csv", "majority,1,0.1,", "majority,1,-1,", "line 2: dice is -1.0"),
    "nan": ("scores.csv", "majority,1,0.1,", "majority,1,nan,", "line 2: dice is nan"),
    "distance": ("scores.csv", "0.4,1.5,", "0.4,inf,", "hausdorff95_mm is inf"),
    "volume": ("scores.csv", "1.5,10.0", "1.5,nan", "line 2: prediction_cm3 is nan"),
    "tumors": ("scores.csv", "11.0,1\n", "11.0,-1\n", "line 2: tumors is -1"),
    "gap": ("scores.csv", "case_00000,mass,maj", "\ncase_00000,mass,maj", "line 3: 0 cells,"),
    "mark": ("scores.csv", "case_id", "\ufeffcase_id", "line 1: column 1 is '\\ufeffcase_id', not"),
    "source": ("lesions.csv", "prediction", "x", "line 2: source is 'x'"),
    "label": ("lesions.csv", "cyst", "kidney", "line 2: label is 'kidney'"),
    "outcome": ("lesions.csv", ",false positive,", ",eaten,", "line 2: outcome is 'eaten'"),
    "no prediction": ("lesions.csv", ",false positive,", ",missed,", "line 2: outcome is 'missed'"),
    "slice": ("lesions.csv", "nan,7", "nan,-7", "line 2: slice is -7"),
    "stranger": ("lesions.csv", "case_00000", "case_00099", "rows of 'case_00099', of which"),
    "format": ("evaluation.json", '"format": 1', '"format": "1"', "format is '1'"),
    "folder": ("evaluation.json", '"/elsewhere"', "null", "dataset is None"),
    "missing": ("evaluation.json", '"case_00003"', "3", "missing is [3]"),
    "failure": ("evaluation.json", '"message"', '"why"', "failures is [{"),
    "versions": ("evaluation.json", '"kitsjax": "0"', '"kitsjax": 0', "versions is {'kitsjax': 0}"),
    "key": ("evaluation.json", '"dataset"', '"data"', "no dataset"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "what"), DAMAGE.values(), ids=DAMAGE)
def test_what_evaluate_cannot_have_written_is_named(tmp_path, evaluation, name, old, new, what):
    write_evaluation(tmp_path, evaluation)
    path = tmp_path / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read_evaluation(tmp_path)
    assert str(error.value).startswith(f"{path}: not as evaluate wrote it (")
    assert what in str(error.value)
    assert str(error.value).endswith("; run bin/evaluate.py again")
    assert "\n" not in str(error.value)


def test_a_line_that_is_no_text_is_named(tmp_path, evaluation):
    write_evaluation(tmp_path, evaluation)
    path = tmp_path / "scores.csv"
    path.write_bytes(path.read_bytes().replace(b"case_00001,", b"c\xe4se,", 1))
    with pytest.raises(InputError, match=r"scores\.csv: .*line 8 is no UTF-8 text"):
        read_evaluation(tmp_path)


@pytest.mark.parametrize(
    ("drop", "what"),
    [
        ([1], "no row of case_00000, mass, majority"),
        ([0, 1, 2], "no row of case_00000, majority, which other cases have"),
        ([3, 4, 5], "samples.csv: .*1 rows of case_00000, .* has the mean of 0"),
        ([8], "no row of case_00001, tumor, majority"),
    ],
)
def test_a_case_that_is_not_whole_is_named(tmp_path, evaluation, drop, what):
    kept = tuple(score for at, score in enumerate(evaluation.scores) if at not in drop)
    write_evaluation(tmp_path, evaluation)
    lines = [",".join(map(str, row)) + "\n" for row in (Score._fields, *kept)]
    (tmp_path / "scores.csv").write_text("".join(lines))
    with pytest.raises(InputError, match=what):
        read_evaluation(tmp_path)


def test_a_row_twice_and_a_sample_too_few_are_named(tmp_path, evaluation):
    twice = replace(evaluation, scores=(*evaluation.scores, evaluation.scores[1]))
    write_evaluation(tmp_path, twice)
    with pytest.raises(InputError, match=r"scores\.csv: .*line 11: the same score as line 3"):
        read_evaluation(tmp_path)
    write_evaluation(tmp_path, replace(evaluation, samples=evaluation.samples[:2]))
    with pytest.raises(InputError, match=r"samples\.csv: .*0 rows of case_00000, tumor"):
        read_evaluation(tmp_path)


def test_a_share_may_exceed_one_by_rounding_alone(tmp_path, evaluation):
    scores = [s._replace(dice=1 + 2e-16, surface_dice=1.0) for s in evaluation.scores]
    write_evaluation(tmp_path, replace(evaluation, scores=tuple(scores)))
    assert read_evaluation(tmp_path).scores[0].dice > 1


def test_a_folder_in_the_place_of_an_official_table_is_one_line(tmp_path, evaluation):
    (tmp_path / "evaluation_samples.csv").mkdir()
    with pytest.raises(InputError, match=r"evaluation_samples\.csv: cannot remove"):
        write_evaluation(tmp_path, Evaluation(scores=evaluation.scores[:3]))


def test_nothing_half_written_where_writing_is_impossible(tmp_path, evaluation):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_evaluation(tmp_path / "file", evaluation)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
