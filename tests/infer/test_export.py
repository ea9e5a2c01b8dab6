import dataclasses
import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import jax
import numpy as np
import pytest
from threshold_model import threshold_model

from kitsjax.infer.export import PLATFORMS, export_model, save_exported_model
from kitsjax.infer.predict import predict_label
from kitsjax.infer.trained_model import stack_models

ROOT = Path(__file__).parents[2]

WITHOUT_KITSJAX = """
import sys
sys.modules["kitsjax"] = None  # any import of it fails
import jax.export, numpy
exported = jax.export.deserialize(open(sys.argv[1], "rb").read())
for image in sys.argv[2:]:
    numpy.save(image.replace("image", "label"), exported.call(numpy.load(image)))
"""


@pytest.fixture(scope="module")
def models(small_models):
    predict = small_models[0].predict.model_copy(
        update={"mirror": True, "batch_size": 3, "bucket": 48, "resample": "probability"}
    )
    return [dataclasses.replace(model, predict=predict) for model in small_models]


@pytest.fixture(scope="module")
def folder(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    save_exported_model(folder, models)
    return folder


def test_labels_are_the_same_without_kitsjax(models, folder, tmp_path):
    rng = np.random.default_rng(2)
    images = [rng.standard_normal(shape).astype(np.float16) for shape in ((21, 16, 30), (5, 40, 9))]
    paths = [tmp_path / f"image_{n}.npy" for n in range(2)]
    for path, image in zip(paths, images, strict=True):
        np.save(path, image)
    arguments = map(str, (folder / "model.stablehlo", *paths))
    subprocess.run([sys.executable, "-c", WITHOUT_KITSJAX, *arguments], check=True)
    for n, image in enumerate(images):
        expected = predict_label(stack_models(models), image, models[0].predict)
        assert np.bincount(expected.ravel(), minlength=4).max() < 0.9 * expected.size
        np.testing.assert_array_equal(np.load(tmp_path / f"label_{n}.npy"), expected)


def test_an_exported_model_is_described(folder, models):
    description = json.loads((folder / "model.json").read_text())
    content = (folder / "model.stablehlo").read_bytes()
    assert description["sha256"] == sha256(content).hexdigest()
    assert description["preprocess"]["spacing_mm"] == models[0].preprocess.spacing_mm
    assert description["preprocess"]["hu_range"] == [-1024, 3071]
    assert description["predict"]["resample"] == "probability"
    assert description["labels"] == ["background", "kidney", "tumor", "cyst"]
    assert description["members"] == 2
    exported = jax.export.deserialize(content)
    assert exported.platforms == PLATFORMS
    (image,), (label,) = exported.in_avals, exported.out_avals
    assert (image.dtype, label.dtype) == (np.float16, np.uint8)
    assert image.shape == label.shape


def test_padding_is_cut_off_at_the_right_place():
    """A network that sees one voxel at a time shows it."""
    model = threshold_model()
    settings = model.predict.model_copy(update={"weighting": "uniform"})
    model = dataclasses.replace(model, predict=settings)
    exported = jax.export.deserialize(export_model(model, platforms=["cpu"]))
    for shape in [(3, 15, 16), (17, 33, 1), (40, 16, 25)]:
        image = np.random.default_rng(3).normal(1.5, 1, shape).astype(np.float32)
        np.testing.assert_array_equal(exported.call(image), np.where(image > 1.5, 2, 0))


def test_no_device_is_one_line(tmp_path):
    command = [sys.executable, ROOT / "bin" / "export.py", "--model", "synthetic"]
    command += ["--format", "stablehlo", "--output", tmp_path]
    environment = os.environ | {"JAX_PLATFORMS": "nonsense"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "JAX finds no device for JAX_PLATFORMS='nonsense'" in done.stderr
    assert done.stderr.count("\n") == 1
