"""Files of an evaluation, read back: to the last digit, and damaged in every way."""

import json
from dataclasses import replace

import pytest

from kitsjax.errors import InputError
from kitsjax.evaluate.read_results import read_evaluation
from kitsjax.evaluate.results import Score
from kitsjax.evaluate.write_results import write_evaluation


def test_reading_returns_what_was_written(tmp_path, evaluation):
    write_evaluation(tmp_path, evaluation)
    read = read_evaluation(tmp_path)
    # nan is not equal to itself; its text is.
    assert repr(read) == repr(evaluation)
    assert read.scores[2].dice == 1 / 3, "to the last digit"


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


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (99, "has format 99, newer than format 3 of this version; update kitsjax"),
        (1, "has format 1, older than format 3 of this version; run bin/evaluate.py again"),
    ],
)
def test_another_format_is_refused(tmp_path, evaluation, number, what):
    """Whatever else its files hold, the message is about the format."""
    write_evaluation(tmp_path, evaluation)
    path = tmp_path / "evaluation.json"
    content = json.loads(path.read_text())
    for about in (content | {"format": number}, {"format": number, "cases": []}):
        path.write_text(json.dumps(about))
        with pytest.raises(InputError) as error:
            read_evaluation(tmp_path)
        assert str(error.value) == f"{path}: {what}"


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
    "lesions": ("scores.csv", "11.0,1\n", "11.0,-1\n", "line 2: lesions is -1"),
    "gap": ("scores.csv", "case_00000,mass,maj", "\ncase_00000,mass,maj", "line 3: 0 cells,"),
    "mark": ("scores.csv", "case_id", "\ufeffcase_id", "line 1: column 1 is '\\ufeffcase_id', not"),
    "source": ("lesions.csv", "prediction", "x", "line 2: source is 'x'"),
    "label": ("lesions.csv", "cyst", "kidney", "line 2: label is 'kidney'"),
    "outcome": ("lesions.csv", ",false positive,", ",eaten,", "line 2: outcome is 'eaten'"),
    "no prediction": ("lesions.csv", ",false positive,", ",missed,", "line 2: outcome is 'missed'"),
    "slice": ("lesions.csv", "nan,7", "nan,-7", "line 2: slice is -7"),
    "stranger": ("lesions.csv", "case_00000", "case_00099", "rows of 'case_00099', which"),
    "format": ("evaluation.json", '"format": 3', '"format": "2"', "format is '2'"),
    "no format": ("evaluation.json", '"format": 3', '"format": 0', "format is 0"),
    "boolean": ("evaluation.json", '"format": 3', '"format": true', "format is True"),
    "folder": ("evaluation.json", '"/elsewhere"', "null", "dataset is None"),
    "missing": ("evaluation.json", '"case_00003"', "3", "missing.0 is 3"),
    "failure": ("evaluation.json", '"message"', '"why"', "no failures.0.message"),
    "layout": ("evaluation.json", '"layout": "kits"', '"layout": "ours"', "layout is 'ours'"),
    "versions": ("evaluation.json", '"kitsjax": "0"', '"kitsjax": 0', "versions.kitsjax is 0"),
    "entry": ("evaluation.json", '"message"', '"why": "", "message"', "failures.0.why is ''"),
    "key": ("evaluation.json", '"dataset"', '"data"', "no dataset"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "what"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_fields_are_named(tmp_path, evaluation, name, old, new, what):
    write_evaluation(tmp_path, evaluation)
    path = tmp_path / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read_evaluation(tmp_path)
    assert str(error.value).startswith(f"{path}: not as evaluate.py wrote it (")
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


def test_a_row_twice_or_too_few_is_named(tmp_path, evaluation):
    twice = replace(evaluation, scores=(*evaluation.scores, evaluation.scores[1]))
    write_evaluation(tmp_path, twice)
    with pytest.raises(InputError, match=r"scores\.csv: .*line 11: the same score as line 3"):
        read_evaluation(tmp_path)
    write_evaluation(tmp_path, replace(evaluation, samples=evaluation.samples[:2]))
    with pytest.raises(InputError, match=r"samples\.csv: .*0 rows of case_00000, tumor"):
        read_evaluation(tmp_path)


def test_a_share_may_exceed_one_by_rounding(tmp_path, evaluation):
    scores = [s._replace(dice=1 + 2e-16, surface_dice=1.0) for s in evaluation.scores]
    write_evaluation(tmp_path, replace(evaluation, scores=tuple(scores)))
    assert read_evaluation(tmp_path).scores[0].dice > 1
