import dataclasses
import itertools
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threshold_model import bright_cube, threshold_model

from kitsjax.config import load_settings
from kitsjax.errors import InputError
from kitsjax.image.volume import make_volume
from kitsjax.infer.bundle import make_model
from kitsjax.infer.predict import (
    predict_label,
    predict_probabilities,
    probabilities,
    segment,
)
from kitsjax.infer.sliding_window import importance_map, window_positions
from kitsjax.infer.trained_model import Model, stack_models
from kitsjax.labels import CLASSES
from kitsjax.settings import PredictSettings

PATCH = (8, 8, 8)
SETTINGS = PredictSettings(bucket=16, batch_size=2)
PARAMS = {"factors": jnp.array([0.0, 1.0, 2.0, -1.0])}
"""Of `Voxelwise`."""


@dataclass
class Counts:
    traces: int = 0
    batches: int = 0


COUNTS = Counts()


class Voxelwise(nn.Module):
    """A network that sees one voxel at a time: logits are factors times intensity."""

    tag: int = 0

    @nn.compact
    def __call__(self, x):
        COUNTS.traces += 1
        jax.debug.callback(count_batch)
        factors = self.param("factors", nn.initializers.zeros, (len(CLASSES),))
        return (x * factors,)


def voxel_model(network):
    return make_test_model(network, PARAMS, load_settings(None, ["predict.bucket=16"]), PATCH)


def make_test_model(network, params, settings, patch_shape=(16, 16, 16)):
    return Model(params, network, patch_shape, settings.preprocess, settings.predict)


def count_batch():
    COUNTS.batches += 1


class Positional(Voxelwise):
    """Also sees where in the window a voxel lies, so that no two windows agree."""

    @nn.compact
    def __call__(self, x):
        z, y, w = (jnp.arange(size) for size in x.shape[1:4])
        place = z[:, None, None] + 10 * y[:, None] + 100 * w
        return super().__call__(jnp.sin(x + place[..., None]))


def random_image(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def softmax(logits, axis):
    e = np.exp(logits - logits.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def voxelwise_probabilities(image, factors=PARAMS["factors"]):
    return softmax(np.asarray(factors)[:, None, None, None] * image, 0)


@pytest.mark.parametrize("shape", [(16, 11, 20), (3, 17, 8), (1, 40, 5), (1, 1, 1), (8, 8, 8)])
@pytest.mark.parametrize("mirror", [False, True])
def test_windows_are_a_partition_of_unity(shape, mirror):
    settings = PredictSettings(bucket=16, mirror=mirror, batch_size=3)
    image = random_image(shape)
    ensemble = stack_models(voxel_model(Voxelwise()))
    found = predict_probabilities(ensemble, image, settings)
    assert found.shape == (len(CLASSES), *shape)
    np.testing.assert_allclose(found, voxelwise_probabilities(image), atol=2e-6)
    label = predict_label(ensemble, image, settings)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, found.argmax(0))


def naive_probabilities(window_probabilities, image, settings, patch_shape):
    """V1 in plain loops: pad to the patch, sum weighted windows, divide by the sum of weights."""
    short = np.maximum(0, np.subtract(patch_shape, image.shape))
    before = short // 2
    padded = np.pad(image, list(zip(before, short - before, strict=True)))
    weights = importance_map(patch_shape, settings.weighting)
    sums = np.zeros((len(CLASSES), *padded.shape))
    total = np.zeros(padded.shape)
    flips = [[]]
    if settings.mirror:
        flips = [list(axes) for n in range(4) for axes in itertools.combinations(range(3), n)]
    for position in window_positions(padded.shape, patch_shape, settings.step_size):
        window = tuple(slice(p, p + n) for p, n in zip(position, patch_shape, strict=True))
        for axes in flips:
            found = window_probabilities(np.flip(padded[window], axes))
            sums[:, *window] += weights * np.flip(found, [1 + axis for axis in axes]) / len(flips)
        total[window] += weights
    inside = tuple(slice(b, b + n) for b, n in zip(before, image.shape, strict=True))
    return (sums / total)[:, *inside]


def by_window(network, params):
    def window_probabilities(window):
        logits = network.apply({"params": params}, jnp.asarray(window)[None, ..., None])[0][0]
        return np.moveaxis(np.asarray(jax.nn.softmax(logits)), -1, 0)

    return window_probabilities


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("weighting", ["gaussian", "uniform"])
@pytest.mark.parametrize("shape", [(13, 9, 16), (5, 12, 8)])
def test_equals_plain_loops_where_windows_disagree(shape, weighting, mirror):
    settings = PredictSettings(bucket=16, weighting=weighting, mirror=mirror, batch_size=4)
    image = random_image(shape)
    expected = naive_probabilities(by_window(Positional(), PARAMS), image, settings, PATCH)
    model = dataclasses.replace(voxel_model(Positional()), predict=settings)
    found = predict_probabilities(stack_models(model), image, settings)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(probabilities(model, image), expected, atol=2e-6)


@pytest.fixture(scope="module")
def small_settings():
    return load_settings(
        None,
        [
            "network.features=4",
            "network.deep_supervision=2",
            "sampling.patch_shape=[16, 16, 16]",
            "preprocess.spacing_mm=2.0",
            "preprocess.dtype='float32'",
            "predict.bucket=16",
        ],
    )


def random_model(settings, seed):
    model = make_model({}, settings)
    window = jnp.zeros((1, *settings.sampling.patch_shape, 1))
    shapes = jax.eval_shape(model.network.init, jax.random.key(0), window)["params"]
    # Not init's own numbers: compiling the initialization takes longer than all that is tested.
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(s.dtype), shapes)
    return make_model(params, settings)


@pytest.fixture(scope="module")
def small_models(small_settings):
    return [random_model(small_settings, seed) for seed in (0, 1)]


def test_equals_plain_loops_with_the_real_network_and_averages_an_ensemble(small_models):
    patch_shape = (16, 16, 16)
    settings = PredictSettings(bucket=16, batch_size=2)
    image = random_image((20, 16, 30))
    expected = []
    for model in small_models:
        network = by_window(model.network, model.params)
        expected.append(naive_probabilities(network, image, settings, patch_shape))
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    found = predict_probabilities(stack_models(small_models), image, settings)
    np.testing.assert_allclose(found, np.mean(expected, 0), atol=1e-5)
    models = [dataclasses.replace(model, predict=settings) for model in small_models]
    np.testing.assert_allclose(probabilities(models, image), found, atol=1e-6)


def test_an_ensemble_refuses_other_networks_and_nothing(small_models, small_settings):
    other = small_settings.model_copy(
        update={"preprocess": small_settings.preprocess.model_copy(update={"spacing_mm": 3.0})}
    )
    with pytest.raises(InputError, match="model 2 has another preprocessing"):
        stack_models([small_models[0], make_model(small_models[0].params, other)])
    with pytest.raises(InputError, match="no model given"):
        stack_models([])


def test_shapes_of_a_bucket_share_a_program_and_compute_only_their_windows():
    network = Voxelwise(tag=1)
    COUNTS.traces = COUNTS.batches = 0
    predict_label(stack_models(voxel_model(network)), random_image((16, 16, 16)), SETTINGS)
    jax.effects_barrier()
    traces = COUNTS.traces
    assert traces > 0
    # Three windows an axis, two at a time.
    assert COUNTS.batches == 14
    predict_label(stack_models(voxel_model(network)), random_image((9, 8, 3)), SETTINGS)
    jax.effects_barrier()
    assert COUNTS.traces == traces
    # Two windows along z, one along the others.
    assert COUNTS.batches == 14 + 1
    predict_label(stack_models(voxel_model(network)), random_image((17, 8, 3)), SETTINGS)
    assert COUNTS.traces > traces


def test_float16_images_are_computed_in_float32():
    image = random_image((10, 8, 8)).astype(np.float16)
    found = predict_probabilities(stack_models(voxel_model(Voxelwise())), image, SETTINGS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, voxelwise_probabilities(image.astype(np.float32)), atol=2e-6)


def test_probabilities_under_jit_are_the_same(small_models):
    image = jnp.asarray(random_image((17, 12, 20)))
    expected = probabilities(small_models[0], image)
    found = jax.jit(probabilities)(small_models[0], image)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(expected.sum(0), 1, atol=1e-6)


def test_probabilities_map_over_stacked_models(small_models):
    image = random_image((16, 12, 18))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *small_models)
    found = jax.vmap(probabilities, in_axes=(0, None))(stacked, image)
    for model, one in zip(small_models, found, strict=True):
        np.testing.assert_allclose(one, probabilities(model, image), atol=1e-5)
    np.testing.assert_allclose(found.mean(0), probabilities(small_models, image), atol=1e-5)


def test_gradients_pass_through_windows_to_image_and_parameters():
    image = random_image((12, 9, 8)).astype(np.float64)
    model = voxel_model(Positional())

    def tumor(model, image):
        return probabilities(model, image)[2].sum()

    by_model, by_image = jax.grad(tumor, argnums=(0, 1))(model, jnp.asarray(image, jnp.float32))
    assert jax.tree.structure(by_model) == jax.tree.structure(model)
    assert by_image.shape == image.shape
    direction = random_image(image.shape, seed=1)
    step = 1e-2
    ahead, behind = (
        tumor(model, jnp.asarray(image + sign * step * direction, jnp.float32)) for sign in (1, -1)
    )
    np.testing.assert_allclose((by_image * direction).sum(), (ahead - behind) / 2 / step, rtol=1e-2)

    def at(factor):
        params = {"factors": PARAMS["factors"].at[2].add(factor)}
        return tumor(dataclasses.replace(model, params=params), image)

    np.testing.assert_allclose(
        by_model.params["factors"][2], (at(step) - at(-step)) / 2 / step, rtol=1e-2
    )


def test_a_trained_networks_saliency_is_finite_and_not_zero(small_models):
    image = jnp.asarray(random_image((20, 16, 24)))
    saliency = jax.grad(lambda image: probabilities(small_models[0], image)[2].sum())(image)
    assert jnp.isfinite(saliency).all()
    assert (saliency != 0).mean() > 0.9


def test_segment_returns_labels_on_the_native_grid_and_finds_a_cube():
    array = bright_cube()
    volume = make_volume(array, (3.0, 1.0, 1.0))
    label = segment(threshold_model(), volume)
    assert label.array.shape == array.shape
    assert label.array.dtype == np.uint8
    assert (label.spacing_mm, label.header) == (volume.spacing_mm, volume.header)
    np.testing.assert_array_equal(label.affine, volume.affine)
    assert set(np.unique(label.array)) == {0, 2}
    overlap = np.sum((label.array == 2) & (array > 0))
    assert 2 * overlap / (np.sum(label.array == 2) + np.sum(array > 0)) > 0.85


def test_segment_mirrors_when_asked():
    volume = make_volume(random_image((12, 12, 12)), (2.0, 2.0, 2.0))
    settings = load_settings(None, ["preprocess.spacing_mm=2", "predict.bucket=16"])
    model = make_test_model(Positional(), PARAMS, settings, PATCH)
    plain, mirrored = segment(model, volume), segment(model, volume, mirror=True)
    assert (plain.array != mirrored.array).any()
    always = dataclasses.replace(
        model, predict=settings.predict.model_copy(update={"mirror": True})
    )
    np.testing.assert_array_equal(segment(always, volume).array, mirrored.array)
    np.testing.assert_array_equal(segment(always, volume, mirror=False).array, plain.array)
