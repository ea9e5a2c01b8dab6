"""A folder of cases and predictions, its evaluation, and an evaluation made by hand."""

import math
import shutil

import pytest
from predicted_folder import Folders, run, write_folders

from kitsjax.evaluate.results import Evaluation, Failure, Lesion, Score
from kitsjax.labels import KITS


@pytest.fixture(scope="session")
def shared_folders(tmp_path_factory):
    """Three cases and their predictions, only to be read."""
    return write_folders(tmp_path_factory.mktemp("predicted"))


@pytest.fixture(scope="session")
def shared_evaluation(shared_folders):
    """The evaluation of the shared folders."""
    return run(shared_folders)


@pytest.fixture
def folders(shared_folders, tmp_path):
    """A copy of the shared folders that the test may change."""
    for folder in shared_folders:
        shutil.copytree(folder, tmp_path / folder.name)
    return Folders(tmp_path / "data", tmp_path / "predictions")


@pytest.fixture
def evaluation():
    """Two cases scored against the majority, one of them against one annotation sample, too."""
    return Evaluation(
        scores=(
            *_rows("case_00000", "majority", [0.1, 0.2, 1 / 3], [0.4, 0.5, 0.6]),
            *_rows("case_00000", "individual", [0.0, 0.1, 0.2], [0.3, 0.4, 0.5]),
            *_rows("case_00001", "majority", [0.0] * 3, [0.0] * 3),
        ),
        samples=tuple(
            _row("case_00000", name, "group_0/kidney_i1a1_cyst_tumor.nii.gz", 0.5, 0.25)
            for name in KITS.evaluation_keys
        ),
        lesions=(
            Lesion(
                "case_00000", "prediction", "cyst", 1, 0.1, "false positive", *[math.nan] * 3, 7
            ),
        ),
        failures=(Failure("case_00002", 'a "bad", file'),),
        missing=("case_00003",),
        predictions="/somewhere",
        dataset="/elsewhere",
        versions={"kitsjax": "0"},
        layout="kits",
    )


def _rows(case_id, against, dices, surface_dices):
    return [
        _row(case_id, name, against, *scores)
        for name, *scores in zip(KITS.evaluation_keys, dices, surface_dices, strict=True)
    ]


def _row(case_id, name, against, dice, surface_dice):
    return Score(case_id, name, against, 1, dice, surface_dice, 1.5, 10.0, 11.0, 1)
