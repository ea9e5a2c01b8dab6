"""Opening the user's files: what is no file, and what may not be read."""

import os

import numpy as np
import pytest
from nifti_files import label_array, refusal, save

from kitsjax.config import load_settings
from kitsjax.data.split import read_split
from kitsjax.errors import InputError
from kitsjax.evaluate.evaluation import find_predictions
from kitsjax.evaluate.read_results import read_evaluation
from kitsjax.image.read_nifti import read_label, read_volume
from kitsjax.infer.bundle import read_bundle
from kitsjax.infer.find_inputs import find_inputs
from kitsjax.input_file import open_file
from kitsjax.training_log import read_rows


def make_odd_paths(folder):
    """Make what is named like a file and is none; return {name: what it is}."""
    os.mkfifo(folder / "pipe.nii.gz")
    (folder / "folder.nii.gz").mkdir()
    (folder / "device.nii.gz").symlink_to("/dev/zero")
    (folder / "broken.nii.gz").symlink_to("gone.nii.gz")
    (folder / "loop.nii.gz").symlink_to("loop.nii.gz")
    return {
        "pipe": "is not a file",
        "folder": "is a folder",
        "device": "is not a file",
        "broken": "is a link that leads nowhere",
        "loop": "is a link that leads nowhere",
        "absent": "no such file",
    }


def test_only_files_are_opened(tmp_path):
    """A pipe or a device may make its reader wait forever; a link to a file is as good as one."""
    for name, problem in make_odd_paths(tmp_path).items():
        path = tmp_path / f"{name}.nii.gz"
        for read in (read_volume, read_label, read_bundle):
            if (read, name) != (read_bundle, "folder"):
                assert refusal(read, path).startswith(f"{path}: {problem}; ")
    save(tmp_path / "file.nii.gz", label_array())
    (tmp_path / "link.nii.gz").symlink_to("file.nii.gz")
    np.testing.assert_array_equal(read_label(tmp_path / "link.nii.gz").array, label_array())


READERS = {
    "a.nii.gz": read_volume,
    "b.nii.gz": read_label,
    "c.toml": load_settings,
    "split.json": lambda path: read_split(path, None),
    "metrics.jsonl": read_rows,
    "model.safetensors": read_bundle,
    "evaluation.json": lambda path: read_evaluation(path.parent),
    "file": lambda path: next(open_file(path).gen),
}


@pytest.mark.parametrize("name", READERS)
def test_unreadable_files_are_to_be_made_readable(user_folder, name):
    path = user_folder / name
    path.write_bytes(b"text")
    path.chmod(0)
    with pytest.raises(InputError, match=r"Permission denied\); make it readable$"):
        READERS[name](path)


@pytest.mark.parametrize("find", [find_predictions, lambda path: find_inputs(path, "out")])
def test_unreadable_folders_are_named(user_folder, find):
    for mode in (0, 0o400):
        (user_folder / str(mode)).mkdir()
        (user_folder / str(mode) / "a.nii.gz").touch()
        (user_folder / str(mode)).chmod(mode)
        assert refusal(find, user_folder / str(mode)).endswith("make it readable")
