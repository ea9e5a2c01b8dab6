"""Preprocessed cases made of random blocks, without files to read."""

import json

import numpy as np
import pytest

from kitsjax.data.preprocessed_case import PreprocessedCase


def write_preprocessed(folder, shape, seed, values=(1, 2, 3)):
    """A case whose image holds its own flat voxel numbers, so that any patch tells where it is."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    for value in values:
        z, y, x = (int(rng.integers(0, n - 3)) for n in shape)
        label[z : z + 3, y : y + 3, x : x + 3] = value
    folder.mkdir(parents=True)
    np.save(folder / "image.npy", 1 + np.arange(label.size, dtype=np.float32).reshape(shape))
    np.save(folder / "label.npy", label)
    for value in (1, 2, 3):
        np.save(folder / f"foreground_{value}.npy", np.argwhere(label == value).astype(np.int32))
    (folder / "case.json").write_text(json.dumps({"shape": shape}))
    return PreprocessedCase(folder)


@pytest.fixture
def cases(tmp_path):
    shapes = [(20, 24, 28), (9, 30, 21), (16, 16, 40)]
    return [
        write_preprocessed(tmp_path / f"case_{n:05d}", shape, n) for n, shape in enumerate(shapes)
    ]
