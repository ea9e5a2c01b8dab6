"""Models of another organ's labels: their probabilities, masks, exported models and files."""

from dataclasses import replace

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax import export
from threshold_model import bright_cube
from voxel_models import random_image

from kitsjax.config import load_settings
from kitsjax.errors import InputError
from kitsjax.image.volume import make_volume
from kitsjax.infer.bundle import load_model, make_model, save_bundle
from kitsjax.infer.export import export_model
from kitsjax.infer.postprocess import postprocess
from kitsjax.infer.predict import predict_probabilities, probabilities, segment
from kitsjax.infer.trained_model import Model, stack_models
from kitsjax.make_scheme import make_scheme
from kitsjax.settings import LabelSettings, PredictSettings

LIVER = make_scheme(LabelSettings(names=("liver", "tumor"), lesions=("tumor",)))


class ThreeClasses(nn.Module):
    """Liver where the intensity is above 0, tumor where it is above 2."""

    implementation: str = "direct"
    dtype: np.dtype = np.dtype("float32")

    @nn.compact
    def __call__(self, x):
        steepness = self.param("steepness", nn.initializers.ones, ())
        factors = np.array([0, 1, 2], np.float32).reshape(1, 1, 1, 1, 3)
        offsets = np.array([0, 0, -2], np.float32).reshape(1, 1, 1, 1, 3)
        return (steepness * (x * factors + offsets),)


@pytest.fixture(scope="module")
def model():
    settings = load_settings(
        None, ["preprocess.spacing_mm=2", "preprocess.dtype=float32", "predict.bucket=16"]
    )
    params = {"steepness": np.float32(1)}
    sections = settings.preprocess, settings.predict
    return Model(params, ThreeClasses(), (16, 16, 16), *sections, LIVER)


def test_probabilities_are_of_the_schemes_classes(model):
    image = random_image((17, 12, 26))
    found = np.asarray(probabilities(model, image))
    logits = np.stack([0 * image, image, 2 * image - 2])
    expected = np.exp(logits) / np.exp(logits).sum(0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    by_slabs = predict_probabilities(stack_models(model), image, model.predict)
    np.testing.assert_allclose(by_slabs, expected, atol=1e-6)


@pytest.mark.parametrize("resample", ["label", "probability"])
def test_masks_hold_the_schemes_labels(model, resample):
    predict = model.predict.model_copy(update={"resample": resample})
    volume = make_volume(bright_cube(), (2.0, 2.0, 2.0))
    label = segment(replace(model, predict=predict), volume).array
    np.testing.assert_array_equal(label == 2, volume.array > 0)
    assert label.dtype == np.uint8


def test_exported_models_have_its_classes(model):
    image = random_image((17, 12, 26))
    exported = export.deserialize(export_model(model, platforms=["cpu"]))
    label = np.asarray(exported.call(image))
    np.testing.assert_array_equal(label, np.asarray(probabilities(model, image)).argmax(0))
    assert set(np.unique(label)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"names": ("background", "liver", "cyst")}, r"label scheme \(liver, cyst\)"),
        ({"lesions": ()}, r"label scheme \(labels.lesions\)"),
        ({"ignore": 3}, r"label scheme \(labels.ignore\)"),
    ],
)
def test_an_ensemble_has_one_scheme(model, change, named):
    other = replace(model, scheme=replace(LIVER, **change))
    with pytest.raises(InputError, match=f"model 2 has another {named} than model 1"):
        stack_models([model, other])


def test_files_carry_the_scheme(small_settings, tmp_path):
    labels = LabelSettings(names=("liver", "tumor"), lesions=("tumor",))
    settings = small_settings.model_copy(update={"labels": labels})
    network = make_model({}, settings).network
    window = jax.ShapeDtypeStruct((1, 16, 16, 16, 1), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), window)["params"]
    params = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    path = tmp_path / "model.safetensors"
    save_bundle(path, params, settings, {})
    loaded = load_model(path)
    assert loaded.scheme == LIVER
    assert loaded.network.classes == 3
    # The settings name three labels, and the parameters are of two.
    save_bundle(path, params, small_settings, {})
    with pytest.raises(InputError, match="head_0"):
        load_model(path)


def test_the_organ_is_the_first_label():
    """A tumor apart from the liver goes; without lesions, or asked for nothing, all stays."""
    label = np.zeros((4, 4, 8), np.uint8)
    label[1, 1, 1:3], label[1, 1, 3], label[3, 3, 6] = 1, 2, 2
    expected = label.copy()
    expected[3, 3, 6] = 0

    def remove(least, scheme):
        return postprocess(label, 500.0, PredictSettings(least_organ_ml=least), scheme)

    np.testing.assert_array_equal(remove(0.1, LIVER), expected)
    for least, scheme in ((0.0, LIVER), (0.1, replace(LIVER, lesions=()))):
        np.testing.assert_array_equal(remove(least, scheme), label)
