"""Preparing a data set from its settings."""

import pytest

from kitsjax.errors import InputError
from kitsjax.prepare import prepare_data
from kitsjax.settings import DataSettings, PhantomSettings, PreprocessSettings


def test_unknown_annotator_is_refused(tmp_path):
    folder = tmp_path / "case_00000"
    (folder / "segmentations").mkdir(parents=True)
    for name in ("imaging", "aggregated_MAJ_seg", "segmentations/kidney_instance-1_annotation-3"):
        (folder / f"{name}.nii.gz").touch()
    asked = DataSettings(root=str(tmp_path), label_source="annotator_9")
    with pytest.raises(InputError, match=r"no case has an annotation 9 .*another annotator"):
        prepare_data(asked, PhantomSettings(), PreprocessSettings())


def test_places_are_tested_before_any_work(tmp_path, monkeypatch):
    """The message names the setting that moves the cache, or the phantom's folder."""
    work = []
    monkeypatch.setattr("kitsjax.prepare.make_phantom", lambda *_: work.append("phantom"))
    monkeypatch.setattr("kitsjax.prepare.find_cases", lambda *_: work.append("cases"))
    (tmp_path / "file").touch()
    taken, free = str(tmp_path / "file"), str(tmp_path / "free")
    places = [("data.cache", free, taken), ("data.root", taken, free)]
    for setting, root, cache in places:
        asked = DataSettings(root=root, cache=cache, make_phantom=True)
        with pytest.raises(InputError, match=f"is a file; choose another folder with {setting}$"):
            prepare_data(asked, PhantomSettings(), PreprocessSettings())
    assert work == []
