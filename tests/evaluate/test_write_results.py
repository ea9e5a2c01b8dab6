"""The files of an evaluation: KiTS21's own tables, and what stands in the way of writing."""

import os

import pytest

from kitsjax.errors import InputError
from kitsjax.evaluate.read_results import read_evaluation
from kitsjax.evaluate.results import Evaluation
from kitsjax.evaluate.write_results import write_evaluation


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


def test_an_official_table_no_longer_made_goes(tmp_path, evaluation):
    write_evaluation(tmp_path, evaluation)
    write_evaluation(tmp_path, Evaluation(scores=evaluation.scores[:3]))
    assert not (tmp_path / "evaluation_samples.csv").exists()
    assert (tmp_path / "evaluation.csv").exists()


def test_a_folder_in_an_official_tables_place(tmp_path, evaluation):
    (tmp_path / "evaluation_samples.csv").mkdir()
    with pytest.raises(InputError, match=r"evaluation_samples\.csv: cannot remove"):
        write_evaluation(tmp_path, Evaluation(scores=evaluation.scores[:3]))


def test_two_evaluations_are_not_mixed(tmp_path, evaluation):
    """The second one ends as its second table is written: the folder then holds none."""
    write_evaluation(tmp_path, evaluation)
    (tmp_path / "samples.csv").unlink()
    (tmp_path / "samples.csv").mkdir()
    with pytest.raises(InputError, match=r"samples\.csv: cannot write"):
        write_evaluation(tmp_path, evaluation)
    with pytest.raises(InputError, match=r"holds no evaluation\.json"):
        read_evaluation(tmp_path)


def test_half_files_of_killed_processes_go(tmp_path, evaluation):
    leftover = tmp_path / ".host-0-1-01234567.partial.scores.csv"
    leftover.touch()
    os.utime(leftover, (1, 1))
    write_evaluation(tmp_path, evaluation)
    assert not leftover.exists()


def test_nothing_is_half_written(tmp_path, evaluation):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_evaluation(tmp_path / "file", evaluation)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
