import json

import pytest

from kitsjax.config import load_settings
from kitsjax.data.split import split_cases, write_split
from kitsjax.errors import InputError
from kitsjax.train.run_folder import choose_split, open_run

IDS = [f"case_{n:05d}" for n in range(10)]


def settings(folder, *overrides):
    return load_settings(overrides=[f"run.folder={folder}", "data.held_out=3", *overrides])


def begin(asked):
    """A run whose training has begun."""
    folder = open_run(asked, resume=False)
    (folder / "metrics.jsonl").touch()
    return folder


def test_new_run_keeps_settings_and_versions(tmp_path):
    asked = settings(tmp_path / "run")
    folder = open_run(asked, resume=False)
    assert load_settings(folder / "settings.toml") == asked
    assert json.loads((folder / "versions.json").read_text()).keys() >= {"jax", "kitsjax", "python"}


def test_run_that_is_there_is_not_overwritten(tmp_path):
    begin(settings(tmp_path))
    with pytest.raises(InputError, match="--resume"):
        open_run(settings(tmp_path), resume=False)


def test_resume_without_a_run_begins_one(tmp_path):
    assert (open_run(settings(tmp_path / "new"), resume=True) / "settings.toml").exists()


@pytest.mark.parametrize(
    "override",
    [
        "train.seed=1",
        "train.epochs=7",
        "network.features=8",
        "preprocess.spacing_mm=2.5",
        "data.label_source=sample",
    ],
)
def test_resume_refuses_what_changes_numbers(tmp_path, override):
    begin(settings(tmp_path))
    with pytest.raises(InputError, match=override.split("=")[0]):
        open_run(settings(tmp_path, override), resume=True)


@pytest.mark.parametrize(
    "override",
    ["sampling.threads=9", "predict.mirror=true", "data.workers=3", "network.remat=true"],
)
def test_resume_allows_what_changes_no_number(tmp_path, override):
    begin(settings(tmp_path))
    open_run(settings(tmp_path, override), resume=True)


def test_split_is_seeded_and_kept(tmp_path):
    asked = settings(tmp_path)
    split = choose_split(asked, IDS, tmp_path)
    assert split == split_cases(IDS, 3, asked.train.seed)
    # More cases in the data folder must not move a case from one side to the other.
    assert choose_split(asked, [*IDS, "case_00099"], tmp_path) == split


def test_given_split_is_taken(tmp_path):
    given = split_cases(IDS, 5, seed=99)
    write_split(tmp_path / "mine.json", given)
    asked = settings(tmp_path, f"data.split={tmp_path}/mine.json")
    assert choose_split(asked, IDS, tmp_path / "run") == given
