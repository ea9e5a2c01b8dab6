"""Cases that several tests read: preprocessed ones of random boxes, a phantom's and a real one."""

import json
from pathlib import Path

import numpy as np
import pytest

from kitsjax.data.instances import read_instances
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.image.read_nifti import read_label
from kitsjax.phantom.dataset import make_phantom
from kitsjax.process_pool import map_cases

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"


def write_preprocessed(folder, shape, seed):
    """Write a case whose HU are its own flat voxel numbers, so any patch tells where it is."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    for value in (1, 2, 3):
        z, y, x = (int(rng.integers(0, n - 3)) for n in shape)
        label[z : z + 3, y : y + 3, x : x + 3] = value
    folder.mkdir(parents=True)
    image = 1 + np.arange(label.size, dtype=np.int16).reshape(shape)
    np.save(folder / "image.npy", image)
    counts = np.ones(label.size, np.int64), (label > 0).ravel().astype(np.int64)
    np.save(folder / "histogram.npy", np.stack([image.ravel().astype(np.int64), *counts]))
    np.save(folder / "label.npy", label)
    for value in (1, 2, 3):
        np.save(folder / f"foreground_{value}.npy", np.argwhere(label == value).astype(np.int32))
    voxels = {value: int((label == value).sum()) for value in (1, 2, 3)}
    (folder / "case.json").write_text(json.dumps({"shape": shape, "voxels": voxels}))
    return PreprocessedCase(folder)


@pytest.fixture
def cases(tmp_path):
    """Three preprocessed cases."""
    shapes = [(20, 24, 28), (9, 30, 21), (16, 16, 40)]
    return [
        write_preprocessed(tmp_path / f"case_{n:05d}", shape, n) for n, shape in enumerate(shapes)
    ]


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """The folder of a phantom of one case; not to be changed."""
    folder = tmp_path_factory.mktemp("phantom") / "raw"
    make_phantom(folder, 1, 64, seed=2, workers=1, progress=False)
    return folder


@pytest.fixture(scope="session")
def real_case():
    """The majority label and the instances of KiTS21's case 21, and the official samples of it."""
    case = DATA / "kits21" / "case_00021"
    if not case.is_dir():
        pytest.skip("the real KiTS21 case is not at hand")
    truth = read_label(case / "aggregated_MAJ_seg.nii.gz")
    golden = json.loads((DATA / "golden_case_00021.json").read_text())
    return truth, read_instances(case / "segmentations", truth.grid), golden["sample_files"]


@pytest.fixture
def in_process(monkeypatch):
    """Preprocess in the test's own process, since starting others takes seconds."""

    def in_turn(function, items, workers, description, isolated):
        return map_cases(function, items, 1, description, progress=False)

    monkeypatch.setattr("kitsjax.data.preprocess_cases.map_cases", in_turn)
