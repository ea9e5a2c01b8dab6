"""Preparing a data set from its settings."""

import json
import os

import numpy as np
import pytest

from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.errors import InputError
from kitsjax.labels import KITS
from kitsjax.prepare import (
    check_classes,
    describe_preparation,
    fill_intensities,
    find_data,
    prepare_data,
)
from kitsjax.settings import DataSettings, LabelSettings, PhantomSettings, PreprocessSettings


def test_unknown_annotator_is_refused(tmp_path):
    folder = tmp_path / "case_00000"
    (folder / "segmentations").mkdir(parents=True)
    for name in ("imaging", "aggregated_MAJ_seg", "segmentations/kidney_instance-1_annotation-3"):
        (folder / f"{name}.nii.gz").touch()
    asked = DataSettings(root=str(tmp_path), label_source="annotator_9")
    with pytest.raises(InputError, match=r"no case has an annotation 9 .*another annotator"):
        prepare_data(asked, PhantomSettings(), PreprocessSettings())


@pytest.fixture
def made(tmp_path):
    """Make preprocessed cases with these numbers of kidney, tumor and cyst voxels."""

    def make(*counts):
        cases = []
        for number, (kidney, tumor, cyst) in enumerate(counts):
            folder = tmp_path / f"case_{number:05d}"
            folder.mkdir(exist_ok=True)
            voxels = {"1": kidney, "2": tumor, "3": cyst}
            (folder / "case.json").write_text(json.dumps({"voxels": voxels}))
            cases.append(PreprocessedCase(folder))
        return cases

    return make


def test_empty_labels_of_all_cases_are_refused(made):
    with pytest.raises(InputError, match="data/kits: the labels of all 2 training cases are empty"):
        check_classes("data/kits", made((0, 0, 0), (0, 0, 0)), [], KITS)


def test_classes_that_are_nowhere_are_noted(made, caplog):
    """KiTS19 has no cysts; and chance may hold out cases without any tumor."""
    cases = made((5, 1, 0), (0, 2, 0), (9, 0, 0))
    check_classes("data/kits", cases[:2], cases[2:], KITS)
    train, held_out = (record.getMessage() for record in caplog.records)
    assert train.startswith("data/kits: no training case has any voxel of cyst,")
    assert held_out.startswith("data/kits: no held-out case has any voxel of tumor or cyst,")


def test_whole_cases_are_not_noted(made, caplog):
    cases = made((5, 1, 2), (1, 1, 1))
    check_classes("data/kits", cases[:1], cases[1:], KITS)
    check_classes("data/kits", cases, [], KITS)
    assert caplog.records == []


def test_intensities_are_the_training_cases(made):
    """The labeled voxels of all of them; what a run has measured stays, as do other settings."""
    cases = made((1, 0, 0), (1, 0, 0))
    foregrounds = [10, 20, 20, 30], [20, 40]
    for case, voxels in zip(cases, foregrounds, strict=True):
        hu = np.arange(0, 101, 10)
        counts = np.array([voxels.count(value) for value in hu])
        np.save(case.folder / "histogram.npy", np.stack([hu, 1000 + counts, counts]))
    asked = PreprocessSettings(normalize="foreground", lower_percentile=0, upper_percentile=100)
    one, both = fill_intensities(asked, cases[:1]), fill_intensities(asked, cases)
    assert one.intensities == (10, 30, 20, pytest.approx(50**0.5))
    assert both.intensities == (10, 40, pytest.approx(140 / 6), pytest.approx(np.std([
        *foregrounds[0], *foregrounds[1]
    ])))  # fmt: skip
    assert fill_intensities(asked, cases, one.intensities) == one
    assert fill_intensities(one, cases) == one
    fixed = one.model_copy(update={"normalize": "fixed"})
    for other in (PreprocessSettings(), fixed):
        assert fill_intensities(other, cases, (1.0, 2.0, 3.0, 4.0)) == other


def test_places_are_tested_before_any_work(tmp_path, monkeypatch):
    """The message names the setting that moves the cache, or the phantom's folder."""
    work = []
    monkeypatch.setattr("kitsjax.prepare.make_phantom", lambda *_: work.append("phantom"))
    monkeypatch.setattr("kitsjax.prepare.open_dataset", lambda *_: work.append("cases"))
    (tmp_path / "file").touch()
    taken, free = str(tmp_path / "file"), str(tmp_path / "free")
    places = [("data.cache", free, taken), ("data.root", taken, free)]
    for setting, root, cache in places:
        asked = DataSettings(root=root, cache=cache, make_phantom=True)
        with pytest.raises(InputError, match=f"is a file; choose another folder with {setting}$"):
            prepare_data(asked, PhantomSettings(), PreprocessSettings())
    assert work == []


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


def test_other_shards_are_no_older_versions(tmp_path):
    """What another shard has made is not told to be removed."""
    asked = DataSettings(root=str(tmp_path / "data"), make_phantom=True)
    parts = PhantomSettings(cases=2, matrix=64), PreprocessSettings(spacing_mm=8.0)
    for index in range(2):
        data = prepare_data(asked, *parts, (index, 2))
        assert describe_preparation(data).endswith(f"; {data.folder}")
    os.utime(tmp_path / "data" / "case_00000" / "imaging.nii.gz")
    assert " (1 more there, of older versions " in describe_preparation(data)


def test_a_larger_phantom_is_cut(tmp_path, caplog):
    """Another run may have made more cases, or makes them now."""
    asked = DataSettings(root=str(tmp_path / "data"), make_phantom=True)
    for number in (3, 2):
        data = find_data(asked, PhantomSettings(cases=number, matrix=64))
        assert [case.case_id for case in data.cases] == [f"case_{n:05d}" for n in range(number)]
    (record,) = caplog.records
    text = "holds 3 cases, of which the first 2 are taken (phantom.cases)"
    assert record.getMessage() == f"{tmp_path / 'data'}: {text}"
    whole = asked.model_copy(update={"make_phantom": False})
    assert len(find_data(whole, PhantomSettings(cases=2)).cases) == 3


@pytest.mark.parametrize("labels", [{"names": ("liver", "tumor")}, {"ignore": True}])
def test_annotations_are_of_kits_alone(tmp_path, labels):
    (tmp_path / "case_00000").mkdir()
    for name in ("imaging", "aggregated_MAJ_seg"):
        (tmp_path / "case_00000" / f"{name}.nii.gz").touch()
    asked = DataSettings(root=str(tmp_path), label_source="sample")
    parts = PhantomSettings(), PreprocessSettings()
    with pytest.raises(InputError, match="of kidney, tumor, cyst in every voxel") as error:
        prepare_data(asked, *parts, labels=LabelSettings(**labels))
    assert "\n" not in str(error.value)
