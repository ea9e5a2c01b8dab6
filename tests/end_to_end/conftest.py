"""A tiny run that the tests of this folder share."""

import os

import pytest
from tiny_run import TINY, run


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    """A folder with tiny.toml and, beside it, the data set that every tiny run shares."""
    folder = tmp_path_factory.mktemp("work")
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    (folder / "tiny.toml").write_text(
        TINY.replace("[data]", f'[data]\nroot = "{folder}/data/phantom"')
        + f'\n[run]\ncpu_devices = 2\nfolder = "{folder}/run"\ncompilation_cache = "{cache}"\n'
    )
    return folder


@pytest.fixture(scope="session")
def finished(workplace):
    """The workplace after one unbroken run into `run/`, and what the run printed."""
    done = run("train", "--config", workplace / "tiny.toml")
    assert done.returncode == 0, done.stderr
    return workplace, done.stdout
