"""Folds: made from a seed, in nnU-Net's form, checked."""

import json

import pytest

from kitsjax.data.folds import (
    FOLDS_NAME,
    choose_fold,
    choose_folds,
    count_folds,
    find_fold_folders,
    make_folds,
    write_folds,
)
from kitsjax.data.split import read_split, read_splits
from kitsjax.errors import InputError
from kitsjax.settings import DataSettings

IDS = [f"case_{n:05d}" for n in range(11)]
A, B, C, D = IDS[:4]


@pytest.mark.parametrize("count", [2, 4, 5, 11])
def test_each_case_is_held_out_once(count):
    folds = make_folds(IDS[::-1], count, seed=0)
    assert sorted(case for fold in folds for case in fold.held_out) == IDS
    for fold in folds:
        assert sorted(fold.train + fold.held_out) == IDS
    sizes = [len(fold.held_out) for fold in folds]
    assert len(folds) == count
    assert max(sizes) - min(sizes) <= 1
    assert folds == make_folds(IDS, count, seed=0)
    assert folds != make_folds(IDS, count, seed=1)


def test_more_folds_than_cases():
    with pytest.raises(InputError, match=r"data\.folds = 12: the data set has 11 cases"):
        make_folds(IDS, 12, seed=0)


def test_the_file_is_nnunets(tmp_path):
    """It is written once, and taken as it is."""
    folds = make_folds(IDS, 3, seed=0)
    write_folds(tmp_path, folds)
    path = tmp_path / FOLDS_NAME
    content = json.loads(path.read_text())
    assert [sorted(fold) for fold in content] == [["train", "val"]] * 3
    assert content[1]["val"] == list(folds[1].held_out)
    write_folds(tmp_path, folds[:2])
    assert read_splits(path, IDS) == folds
    assert choose_folds(DataSettings(split=str(path)), IDS) == folds
    with pytest.raises(InputError, match="holds 3 folds; choose one with"):
        read_split(path, IDS)


def test_one_fold_is_a_split(tmp_path):
    path = tmp_path / FOLDS_NAME
    path.write_text(json.dumps([{"train": [B, A], "val": [C]}]))
    split = read_split(path, IDS)
    assert (split.train, split.held_out) == ((A, B), (C,))


@pytest.mark.parametrize(
    ("folds", "problem"),
    [
        ([([A, B], [C, D]), ([C, D], [A])], "case_00001 is in val of no fold"),
        ([([A, B], [C, D]), ([D], [A, B, C])], "case_00002 is in val of 2 folds"),
        ([([A, B], [C, D]), ([B, C, D], [A, B])], "fold 1: case_00001 is in both"),
        ([([A, B], [C, D]), ([C, "case_9"], [A, B])], "fold 1: case_9 is not in the data folder"),
        ([([A, B], [C, D]), ([C, D], [A, B, A])], "fold 1: case_00000 is in held_out twice"),
        ([([A, B], [C, D]), ([], [A, B])], "fold 1: no case to train on"),
    ],
)
def test_bad_folds_are_refused_in_one_line(tmp_path, folds, problem):
    path = tmp_path / FOLDS_NAME
    path.write_text(json.dumps([{"train": train, "val": val} for train, val in folds]))
    with pytest.raises(InputError, match=problem) as caught:
        choose_folds(DataSettings(split=str(path)), [A, B, C, D])
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[]", '[{"train": ["a"]}]', '[{"train": ["a"], "val": [1]}]'])
def test_what_is_no_folds_is_refused(tmp_path, content):
    path = tmp_path / FOLDS_NAME
    path.write_text(content)
    with pytest.raises(InputError, match="not a split"):
        read_splits(path)


def test_the_number_of_folds_has_one_source(tmp_path):
    write_folds(tmp_path, make_folds(IDS, 3, seed=0))
    path = str(tmp_path / FOLDS_NAME)
    assert count_folds(DataSettings(folds=5)) == 5
    assert count_folds(DataSettings(split=path)) == count_folds(DataSettings(split=path, folds=3))
    with pytest.raises(InputError, match=r"holds 3 folds, but data\.folds = 5"):
        count_folds(DataSettings(split=path, folds=5))
    for none in (DataSettings(), DataSettings(folds=1)):
        with pytest.raises(InputError, match="--fold: there are no folds"):
            count_folds(none)


def test_a_fold_and_its_folder(tmp_path):
    """The folds beside a run folder are those of the settings, or the run is refused."""
    folds = make_folds(IDS, 3, seed=0)
    data = DataSettings(folds=3, fold=2)
    folder = tmp_path / "fold_2"
    assert choose_fold(data, IDS, folder) == folds[2]
    write_folds(tmp_path, folds)
    assert choose_fold(data, IDS, folder) == folds[2]
    for other, ids in ((data.model_copy(update={"split_seed": 1}), IDS), (data, IDS[:-1])):
        with pytest.raises(InputError, match="holds other folds than these settings"):
            choose_fold(other, ids, folder)
    with pytest.raises(InputError, match="--fold 3: give a fold from 0 to 2"):
        choose_fold(data.model_copy(update={"fold": 3}), IDS, tmp_path / "fold_3")
    with pytest.raises(InputError, match="is not the run folder of fold 2"):
        choose_fold(data, IDS, tmp_path / "run")


def test_fold_folders_are_in_order(tmp_path):
    for name in ("fold_10", "fold_9", "fold_x", "fold_", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "fold_3").touch()
    assert [path.name for path in find_fold_folders(tmp_path)] == ["fold_9", "fold_10"]
    assert find_fold_folders(tmp_path / "missing") == []
