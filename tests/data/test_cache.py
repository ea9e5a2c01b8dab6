"""Where preprocessed cases lie, and what counts as up to date."""

import os

from raw_cases import SETTINGS, write_case

from kitsjax.data.cache import cache_folder, is_current
from kitsjax.data.kits import find_cases
from kitsjax.data.preprocess_case import preprocess_case
from kitsjax.settings import PreprocessSettings


def test_other_settings_have_another_folder():
    other = SETTINGS.model_copy(update={"lower_percentile": 1.0})
    assert cache_folder("c", SETTINGS) == cache_folder("c", PreprocessSettings(spacing_mm=3.0))
    assert cache_folder("c", SETTINGS) != cache_folder("c", other)


def test_folder_names_stay_as_they_are():
    """Preprocessed data sets of earlier versions must be found again."""
    assert cache_folder("c", PreprocessSettings()).as_posix() == "c/1.99mm-6c5941da"


def test_changed_or_damaged_is_not_current(tmp_path):
    write_case(tmp_path / "raw", 0)
    (case,), folder = find_cases(tmp_path / "raw"), tmp_path / "case_00000"
    assert not is_current(case, folder)
    preprocess_case(case, folder, SETTINGS)
    assert is_current(case, folder)
    os.utime(case.label)
    assert not is_current(case, folder)
    preprocess_case(case, folder, SETTINGS)
    (folder / "case.json").write_text("{")
    assert not is_current(case, folder)
    preprocess_case(case, folder, SETTINGS)
    case.image.unlink()
    assert not is_current(case, folder)
