"""Models whose outputs are regions: their files, probabilities, masks and exported models."""

import dataclasses

import jax
import numpy as np
import pytest
from voxel_models import random_image

from kitsjax.config import override_settings
from kitsjax.errors import InputError
from kitsjax.infer.bundle import load_model, make_model, save_bundle
from kitsjax.infer.export import export_model
from kitsjax.infer.predict import predict_label, probabilities
from kitsjax.infer.trained_model import stack_models
from kitsjax.model.unet import build_network


@pytest.fixture(scope="module")
def settings(small_settings):
    return override_settings(small_settings, ["loss.regions=true"])


@pytest.fixture(scope="module")
def model(settings, tmp_path_factory):
    """A small model with random parameters, as it comes from its file."""
    network = build_network(settings.network, settings.sampling.patch_shape, regions=True)
    window = jax.ShapeDtypeStruct((1, 16, 16, 16, 1), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), window)["params"]
    # This seed's predictions hold three classes.
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda s: rng.normal(0, 1, s.shape).astype(s.dtype), shapes)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_bundle(path, params, settings, {})
    return load_model(path)


def test_file_tells_what_the_outputs_are(model, settings, tmp_path):
    assert model.network.regions
    classes = override_settings(settings, ["loss.regions=false"])
    save_bundle(tmp_path / "model.safetensors", model.params, classes, {})
    with pytest.raises(InputError, match="head_0"):
        load_model(tmp_path / "model.safetensors")


def test_probabilities_are_of_the_classes(model):
    image = random_image((16, 16, 16))
    found = np.asarray(probabilities(model, image))
    apply = jax.jit(model.network.apply)
    logits = apply({"params": model.params}, image[None, ..., None])[0][0]
    first, second, third = np.moveaxis(1 / (1 + np.exp(-np.asarray(logits, np.float64))), -1, 0)
    mass = np.minimum(first, second)
    tumor = np.minimum(mass, third)
    expected = [1 - first, first - mass, tumor, mass - tumor]
    assert np.ptp(first) > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-6)


def test_masks_and_exported_models_agree(model):
    image = random_image((17, 12, 26)).astype(np.float16)
    found = predict_label(stack_models(model), image, model.predict)
    assert len(np.unique(found)) > 2
    np.testing.assert_array_equal(found, probabilities(model, image).argmax(0))
    exported = jax.export.deserialize(export_model(model, platforms=["cpu"]))
    np.testing.assert_array_equal(exported.call(image), found)


def test_regions_and_classes_are_not_averaged(model, small_settings, small_models):
    with pytest.raises(InputError, match="another network"):
        stack_models([small_models[0], model])
    same = dataclasses.replace(model, params=jax.tree.map(lambda x: x + 1, model.params))
    assert stack_models([model, same]).model is model
    assert not make_model(small_models[0].params, small_settings).network.regions
