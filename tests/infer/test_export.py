import dataclasses
import json
import subprocess
import sys
from hashlib import sha256

import jax
import numpy as np
import pytest
from threshold_model import threshold_model

from kitsjax.config import load_settings
from kitsjax.infer.bundle import make_model
from kitsjax.infer.export import PLATFORMS, export_model, save_exported_model
from kitsjax.infer.predict import predict_label
from kitsjax.infer.trained_model import stack_models

WITHOUT_KITSJAX = """
import sys
sys.modules["kitsjax"] = None  # any import of it fails
import jax.export, numpy
program = jax.export.deserialize(open(sys.argv[1], "rb").read())
numpy.save(sys.argv[3], program.call(numpy.load(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def models():
    settings = load_settings(
        None,
        ["network.features=2", "network.deep_supervision=2", "sampling.patch_shape=[16, 16, 16]",
         "predict.bucket=16", "predict.batch_size=3", "predict.mirror=true"],
    )  # fmt: skip
    empty = make_model({}, settings).network
    window = np.zeros((1, 16, 16, 16, 1), np.float32)
    shapes = jax.eval_shape(empty.init, jax.random.key(0), window)["params"]
    rngs = (np.random.default_rng(seed) for seed in (0, 1))
    return [
        make_model(
            jax.tree.map(lambda s, rng=rng: rng.normal(0, 1, s.shape).astype(s.dtype), shapes),
            settings,
        )
        for rng in rngs
    ]


@pytest.fixture(scope="module")
def program(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    save_exported_model(folder, models)
    return folder


@pytest.mark.parametrize("shape", [(21, 16, 30), (5, 40, 9)])
def test_a_process_without_kitsjax_gets_the_same_labels(models, program, shape, tmp_path):
    image = np.random.default_rng(2).standard_normal(shape).astype(np.float16)
    np.save(tmp_path / "image.npy", image)
    paths = program / "program.stablehlo", tmp_path / "image.npy", tmp_path / "label.npy"
    subprocess.run([sys.executable, "-c", WITHOUT_KITSJAX, *map(str, paths)], check=True)
    expected = predict_label(stack_models(models), image, models[0].predict)
    assert np.bincount(expected.ravel(), minlength=4).max() < 0.9 * expected.size
    np.testing.assert_array_equal(np.load(paths[2]), expected)


def test_a_program_is_described_and_made_for_every_platform(program, models):
    described = json.loads((program / "program.json").read_text())
    content = (program / "program.stablehlo").read_bytes()
    assert described["sha256"] == sha256(content).hexdigest()
    assert described["preprocess"]["spacing_mm"] == models[0].preprocess.spacing_mm
    assert described["labels"] == ["background", "kidney", "tumor", "cyst"]
    assert described["members"] == 2
    exported = jax.export.deserialize(content)
    assert exported.platforms == PLATFORMS
    (image,), (label,) = exported.in_avals, exported.out_avals
    assert (image.dtype, label.dtype) == (np.float16, np.uint8)
    assert image.shape == label.shape


def test_windows_of_an_exported_program_stand_where_they_should():
    """A network of one voxel shows whether padding is cut off at the right place."""
    model = threshold_model()
    settings = model.predict.model_copy(update={"weighting": "uniform"})
    model = dataclasses.replace(model, predict=settings)
    exported = jax.export.deserialize(export_model(model, platforms=["cpu"]))
    for shape in [(3, 15, 16), (17, 33, 1), (40, 16, 25)]:
        image = np.random.default_rng(3).normal(1.5, 1, shape).astype(np.float32)
        np.testing.assert_array_equal(exported.call(image), np.where(image > 1.5, 2, 0))
