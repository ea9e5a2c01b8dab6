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
    others = find_cases(task.tests["phantom of seed 1"])
    assert len(others) == 2
    same = next(c for c in find_cases(task.settings.data.root) if c.case_id == others[0].case_id)
    arrays = [read_volume(case.image).array for case in (same, others[0])]
    assert arrays[0].shape != arrays[1].shape or (arrays[0] != arrays[1]).any()


def test_other_data_are_tested_on_their_own(task, tmp_path):
    root = task.settings.data.root
    overrides = (f"data.root={root}", "data.make_phantom=false", "data.held_out=1")
    settings = read_settings(LearnOptions(overrides=overrides))
    assert list(make_task(settings, None, tmp_path).tests) == [HELD_OUT]
    found = make_task(settings, root, tmp_path).tests
    assert len(find_cases(found["phantom"])) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (LearnOptions(overrides=["data.held_out=0"]), "data.held_out = 0"),
        (LearnOptions(rates=[0.01, 0.0]), "--rates 0.01 0.0"),
        (LearnOptions(rates=[0.1, 0.1]), "--rates 0.1 0.1"),
        (LearnOptions(overrides=["train.epoch=1"]), "train.epoch"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        read_settings(options)
