"""`bin/check.py` as a user runs it: what it prints and writes, and its exit status."""

import csv
import re

import pytest

from kitsjax.phantom.dataset import make_phantom


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "raw"
    make_phantom(folder, 3, 64, seed=3, workers=1, progress=False)
    return folder


@pytest.fixture
def check(run_here, dataset, tmp_path):
    def run(*more):
        return run_here(
            "check", "--dataset", dataset, "--output", tmp_path / "check", "--workers", 1, *more
        )

    return run


def test_a_clean_data_set(check, tmp_path):
    done = check()
    assert done.returncode == 0
    assert "3 cases: 0 with errors, 0 with warnings only, 3 clean\n" in done.stdout
    # The time that a case took, whatever it was.
    assert re.search(r"\n[\d.e+-]+ s a case, \d+ s in all; page: ", done.stdout)
    assert done.stdout.endswith(f"{(tmp_path / 'check' / 'check.html').resolve()}\n")
    with (tmp_path / "check" / "cases.csv").open() as file:
        assert [row["grade"] for row in csv.DictReader(file)] == ["clean"] * 3
    assert {path.name for path in (tmp_path / "check").iterdir()} == {"cases.csv", "check.html"}


def test_an_error_gives_status_1(check, dataset):
    """All cases are reported, and a folder that may be meant as a case is noted."""
    (dataset / "case_00001" / "imaging.nii.gz").unlink()
    (dataset / "case_0009").mkdir()
    done = check()
    assert done.returncode == 1
    assert "\ncase_00001  missing file  -\n" in done.stdout
    assert "3 cases: 1 with errors, 0 with warnings only, 2 clean\n" in done.stdout
    assert "passed over 1 file: case_0009 (a folder)" in done.stderr


def test_a_warning_gives_status_0(check, dataset):
    """A note on a file is a warning, and is not printed above the bar."""
    (dataset / "case_00001" / "segmentations" / "notes.txt").write_text("see page 3")
    done = check()
    assert done.returncode == 0
    assert "\ncase_00001  -       note on a file\n" in done.stdout
    assert "passed over" not in done.stderr


def test_a_spacing_that_training_refuses(check, tmp_path):
    """It depends on the configuration: at 0.1 mm the phantom would fill all memory."""
    (tmp_path / "fine.toml").write_text("[preprocess]\nspacing_mm = 0.1\n")
    done = check("--config", tmp_path / "fine.toml")
    assert done.returncode == 1
    assert done.stdout.count("  wrong spacing  -\n") == 3


def test_nothing_to_check_gives_status_2(run_here, tmp_path):
    (tmp_path / "empty").mkdir()
    output = tmp_path / "check"
    done = run_here("check", "--dataset", tmp_path / "empty", "--output", output)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "holds no data set; looked for folders case_XXXXX" in done.stderr
    assert not output.exists()


def test_a_wrong_number_of_workers(run_here, tmp_path):
    done = run_here("check", "--dataset", tmp_path, "--output", tmp_path, "--workers", -1)
    assert done.returncode == 2
    assert "--workers: give a number of processes" in done.stderr
