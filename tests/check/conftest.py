"""Phantoms with faults: copies of one that is clean."""

import shutil

import pytest

from kitsjax.check.examine_case import examine_case
from kitsjax.data.kits import find_cases
from kitsjax.labels import KITS
from kitsjax.phantom.dataset import make_phantom

CASES = 4


@pytest.fixture(scope="session")
def clean_root(tmp_path_factory):
    """The folder of a phantom of four cases; not to be changed."""
    folder = tmp_path_factory.mktemp("clean") / "raw"
    make_phantom(folder, CASES, 64, seed=3, workers=1, progress=False)
    return folder


@pytest.fixture
def root(clean_root, tmp_path):
    """A copy of the phantom, to be changed."""
    return shutil.copytree(clean_root, tmp_path / "raw")


@pytest.fixture
def case_folder(root):
    """A folder of a case, to be changed."""
    return root / "case_00001"


@pytest.fixture
def examine(root, case_folder, tmp_path):
    """Examine the case of `case_folder`, whose files may have been changed since."""

    def run():
        found = {case.folder: case for case in find_cases(root, images=False)}
        return examine_case(found[case_folder], tmp_path / "output", KITS, 1.99)

    return run
