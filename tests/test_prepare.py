"""Preparing a data set from its settings."""

import os

import pytest

from kitsjax.errors import InputError
from kitsjax.prepare import describe_preparation, prepare_data
from kitsjax.settings import DataSettings, PhantomSettings, PreprocessSettings


def test_unknown_annotator_is_refused(tmp_path):
    folder = tmp_path / "case_00000"
    (folder / "segmentations").mkdir(parents=True)
    for name in ("imaging", "aggregated_MAJ_seg", "segmentations/kidney_instance-1_annotation-3"):
        (folder / f"{name}.nii.gz").touch()
    asked = DataSettings(root=str(tmp_path), label_source="annotator_9")
    with pytest.raises(InputError, match=r"no case has an annotation 9 .*another annotator"):
        prepare_data(asked, PhantomSettings(), PreprocessSettings())


def test_cache_is_named_by_the_resolved_root(tmp_path, monkeypatch):
    """Data sets that are each "." from within, and a link to one of them, have their own cache."""
    phantom = PhantomSettings(cases=1, matrix=64)
    preprocess = PreprocessSettings(spacing_mm=8.0)

    def prepare(root):
        return prepare_data(DataSettings(root=str(root), make_phantom=True), phantom, preprocess)

    for name in ("kits21", "kits23"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        data = prepare(".")
        assert data.folder.parent == tmp_path / "preprocessed" / name
        assert [data.preprocessed[case.case_id].case_id for case in data.cases] == ["case_00000"]
        assert (
            data.preprocessed["case_00000"].shape == data.preprocessed["case_00000"].image().shape
        )
        assert data.report.made == 1
    (tmp_path / "link").symlink_to("kits21")
    linked = prepare(tmp_path / "link")
    assert (linked.folder.parent.name, linked.report.kept) == ("kits21", 1)
    assert describe_preparation(linked).endswith(f"1 up to date; {linked.folder}")
    os.utime(tmp_path / "kits21" / "case_00000" / "imaging.nii.gz")
    assert " (1 more there, of older versions " in describe_preparation(prepare(tmp_path / "link"))
