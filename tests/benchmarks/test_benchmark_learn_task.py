import math

import pytest

from benchmarks.learn_task import HELD_OUT, LearnOptions, make_task, read_settings
from kitsjax.data.kits import find_cases
from kitsjax.data.split import read_split, split_cases
from kitsjax.errors import InputError
from kitsjax.image.read_nifti import read_volume

TINY = ("phantom.matrix=64", "phantom.cases=3", "data.held_out=1")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    options = LearnOptions(overrides=TINY)
    return make_task(read_settings(options), None, tmp_path_factory.mktemp("learn"))


def test_phantom_is_split_as_kitsjax_splits_it(task):
    data = task.settings.data
    ids = [case.case_id for case in find_cases(data.root)]
    assert len(ids) == 3
    assert read_split(data.split) == split_cases(ids, 1, data.split_seed)
    assert not data.make_phantom
    held_out = [case.case_id for case in find_cases(task.tests[HELD_OUT])]
    assert tuple(held_out) == read_split(data.split).held_out


def test_others_are_new_cases_of_the_phantom(task):
    others = find_cases(task.tests["phantom of seed 1000"])
    assert len(others) == 2
    same = next(c for c in find_cases(task.settings.data.root) if c.case_id == others[0].case_id)
    arrays = [read_volume(case.image).array for case in (same, others[0])]
    assert arrays[0].shape != arrays[1].shape or (arrays[0] != arrays[1]).any()


def test_other_data_are_tested_on_their_own(task, tmp_path):
    root = task.settings.data.root
    overrides = (f"data.root={root}", "data.make_phantom=false", "data.held_out=1")
    settings = read_settings(LearnOptions(overrides=overrides))
    assert list(make_task(settings, None, tmp_path).tests) == [HELD_OUT]
    others = task.tests["phantom of seed 1000"]
    found = make_task(settings, others, tmp_path).tests
    assert list(found) == [HELD_OUT, "others (--test)"]
    assert [path.resolve() for path in sorted(found["others (--test)"].iterdir())] == [
        path.resolve() for path in sorted(others.iterdir())
    ]
    with pytest.raises(InputError, match=f"--test {root}: case_0000. is trained on"):
        make_task(settings, root, tmp_path)


def test_the_sets_are_those_of_the_present_run(tmp_path):
    """The folder of an earlier run has links, and phantoms, of its own settings."""
    for held_out in (2, 1):
        overrides = (
            "phantom.matrix=64",
            f"phantom.cases={2 + held_out}",
            f"data.held_out={held_out}",
        )
        settings = read_settings(LearnOptions(overrides=overrides))
        found = make_task(settings, None, tmp_path)
    split = read_split(found.settings.data.split)
    assert (len(split.train), len(split.held_out)) == (2, 1)
    assert [path.name for path in found.tests[HELD_OUT].iterdir()] == list(split.held_out)
    assert len(find_cases(found.tests["phantom of seed 1000"])) == 2


def test_what_is_given_is_read_first(tmp_path):
    split = tmp_path / "split.json"
    split.write_text('{"train": ["case_00000"], "held_out": []}')
    for options, message in (
        (LearnOptions(overrides=[f"data.split={split}"]), "no case is held out"),
        (LearnOptions(test=tmp_path / "none"), "none: no such data folder"),
        (LearnOptions(overrides=["data.make_phantom=false", "data.root=none"]), "none: no such"),
    ):
        with pytest.raises(InputError, match=message):
            read_settings(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (LearnOptions(overrides=["data.held_out=0"]), "no case is held out"),
        (LearnOptions(overrides=["data.folds=2"]), "data.folds"),
        (LearnOptions(overrides=["data.root=/other"]), "add --set data.make_phantom=false"),
        (LearnOptions(rates=[math.nan]), "--rates nan"),
        (LearnOptions(rates=[math.inf]), "--rates inf"),
        (LearnOptions(rates=[0.01, 0.0]), "--rates 0.01 0.0"),
        (LearnOptions(rates=[0.1, 0.1]), "--rates 0.1 0.1"),
        (LearnOptions(overrides=["train.epoch=1"]), "train.epoch"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        read_settings(options)
