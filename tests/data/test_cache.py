"""Where preprocessed cases lie, and what counts as up to date."""

import os
import shutil

import pytest
from raw_cases import SETTINGS, write_case

from kitsjax.data.cache import cache_folder, count_others, is_stored, locate_case
from kitsjax.data.kits import find_cases
from kitsjax.data.preprocess_cases import preprocess_cases
from kitsjax.settings import PreprocessSettings


def test_other_settings_have_another_folder():
    assert cache_folder("c", SETTINGS) == cache_folder("c", PreprocessSettings(spacing_mm=3.0))
    for other in ({"spacing_mm": 2.0}, {"hu_range": ()}, {"foreground_voxels": 9}):
        assert cache_folder("c", SETTINGS) != cache_folder("c", SETTINGS.model_copy(update=other))


def test_normalizations_share_their_cases():
    """Cases are stored in HU, so another normalization or split costs no preprocessing."""
    for other in (
        {"lower_percentile": 1.0, "upper_percentile": 99.0}, {"dtype": "float32"},
        {"normalize": "foreground"}, {"normalize": "fixed", "intensities": (0.0, 9.0, 5.0, 2.0)},
    ):  # fmt: skip
        assert cache_folder("c", SETTINGS) == cache_folder("c", SETTINGS.model_copy(update=other))


def test_folder_names_stay_as_they_are():
    """Preprocessed data sets of earlier versions must be found again."""
    assert cache_folder("c", PreprocessSettings()).as_posix() == "c/1.99mm-9d267455"


def test_stamp_is_that_of_the_cases_own_files(tmp_path):
    """Names within the case, sizes and times count; not where the data set lies."""
    write_case(tmp_path / "raw", 0, annotations=1)
    (case,) = find_cases(tmp_path / "raw")
    before = locate_case(case, tmp_path, annotations=True)
    shutil.copytree(tmp_path / "raw", tmp_path / "moved")
    (copy,) = find_cases(tmp_path / "moved")
    assert locate_case(copy, tmp_path, annotations=True) == before
    for path in (case.image, case.label):
        os.utime(path)
        after = locate_case(case, tmp_path)
        assert after.folder != before.folder
        assert after.case_id == "case_00000"
        shutil.copystat(copy.folder / path.name, path)
        assert locate_case(case, tmp_path).folder == before.folder
    annotation = next(case.annotations.iterdir())
    os.utime(annotation)
    after = locate_case(case, tmp_path, annotations=True)
    assert after.folder == before.folder
    assert after.annotations != before.annotations


@pytest.mark.usefixtures("in_process")
def test_data_sets_share_a_cache(tmp_path):
    """Cases of one name neither replace each other nor hide from each other."""
    stored = []
    for name in ("kits21", "kits23", "kits21"):
        if not (tmp_path / name).exists():
            write_case(tmp_path / name, 0)
        report = preprocess_cases(find_cases(tmp_path / name), tmp_path / "cache", SETTINGS)
        stored.append((report.made, report.cases["case_00000"]))
    (made, first), (made_second, second), (made_again, again) = stored
    assert (made, made_second, made_again) == (1, 1, 0)
    assert first == again != second
    assert is_stored(first)
    assert is_stored(second)


@pytest.mark.usefixtures("in_process")
def test_older_versions_are_counted(tmp_path):
    write_case(tmp_path / "raw", 0, annotations=1)
    cases, folder = find_cases(tmp_path / "raw"), tmp_path / "cache" / "3mm-01234567"

    def count(annotations=False):
        report = preprocess_cases(cases, folder, SETTINGS, annotations=annotations)
        return count_others(folder, report.cases.values())

    assert count() == count(annotations=True) == 0
    os.utime(next(cases[0].annotations.iterdir()))
    assert (count(), count(annotations=True)) == (0, 1)
    os.utime(cases[0].label)
    # The older case goes with its instances.
    assert count() == 1
    # The program's first format had no stamps.
    (tmp_path / "cache" / "1.99mm-76543210" / "case_00007").mkdir(parents=True)
    assert count() == 2
    # The second stored no histogram; cases of the present one are other settings' own.
    for name in ("case_00007-01234567", "case_00008-01234567"):
        (tmp_path / "cache" / "3mm-76543210" / name).mkdir(parents=True)
    (tmp_path / "cache" / "3mm-76543210" / name / "histogram.npy").touch()
    assert count() == 3
