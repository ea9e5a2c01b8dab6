import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from threshold_model import bright_cube, threshold_model
from voxel_models import (
    FACTORS,
    Positional,
    Voxelwise,
    naive_probabilities,
    random_image,
    voxel_model,
    voxelwise_probabilities,
)

from kitsjax.data.preprocess import preprocess
from kitsjax.image.volume import Volume, make_volume
from kitsjax.infer.predict import (
    predict_label,
    predict_probabilities,
    probabilities,
    segment,
)
from kitsjax.infer.trained_model import stack_models
from kitsjax.infer.window_program import predict_windows
from kitsjax.labels import KITS
from kitsjax.settings import PredictSettings

SETTINGS = PredictSettings(bucket=16, batch_size=2)
SMALL_SHAPE = (17, 12, 26)
"""Of the images that the small models see, so that they are compiled once: 2 x 1 x 3 windows."""


@pytest.mark.parametrize("shape", [(16, 11, 20), (3, 17, 8), (1, 40, 5), (1, 1, 1), (8, 8, 8)])
@pytest.mark.parametrize("mirror", [False, True])
def test_windows_are_a_partition_of_unity(shape, mirror):
    # All shapes lie in one bucket, so that they share compiled functions.
    settings = PredictSettings(bucket=40, mirror=mirror, batch_size=3)
    image = random_image(shape)
    ensemble = stack_models(voxel_model(Voxelwise()))
    found = predict_probabilities(ensemble, image, settings)
    assert found.shape == (len(KITS.names), *shape)
    np.testing.assert_allclose(found, voxelwise_probabilities(image), atol=2e-6)
    label = predict_label(ensemble, image, settings)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, found.argmax(0))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("weighting", ["gaussian", "uniform"])
@pytest.mark.parametrize("shape", [(13, 9, 16), (5, 12, 8)])
def test_equals_plain_loops_of_differing_windows(shape, weighting, mirror):
    settings = PredictSettings(bucket=16, weighting=weighting, mirror=mirror, batch_size=4)
    image = random_image(shape)
    model = dataclasses.replace(voxel_model(Positional()), predict=settings)
    expected = naive_probabilities(model, image, settings)
    found = predict_probabilities(stack_models(model), image, settings)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(probabilities(model, image), expected, atol=2e-6)


def test_an_ensemble_is_the_mean_of_plain_loops(small_models):
    image = random_image(SMALL_SHAPE)
    expected = [naive_probabilities(model, image, SETTINGS) for model in small_models]
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    found = predict_probabilities(stack_models(small_models), image, SETTINGS)
    np.testing.assert_allclose(found, np.mean(expected, 0), atol=1e-5)
    np.testing.assert_allclose(probabilities(small_models, image), found, atol=1e-6)


@dataclass
class Counts:
    traces: int = 0
    batches: int = 0


COUNTS = Counts()


def count_batch():
    COUNTS.batches += 1


class Counting(Voxelwise):
    """Counts how often it is traced, and how often it computes a batch of windows."""

    def __call__(self, x):
        COUNTS.traces += 1
        jax.debug.callback(count_batch)
        return super().__call__(x)


def count_compiled():
    """Count the programs of windows, those with a platform's options and those without."""
    with_options = [jitted for _, jitted in predict_windows._with_options["cpu"]]
    return sum(jitted._cache_size() for jitted in [predict_windows.jitted, *with_options])


def test_the_network_is_compiled_once(monkeypatch):
    """Whatever the sizes of the images are; only the windows of an image are computed."""
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    ensemble = stack_models(voxel_model(Counting()))
    COUNTS.traces = COUNTS.batches = 0
    compiled = count_compiled()
    # Three windows an axis, two at a time; two along z and one along the others; seven along z.
    for shape, batches in [((16, 16, 16), 14), ((9, 8, 3), 1), ((32, 8, 40), 32), ((5, 5, 5), 1)]:
        before = COUNTS.batches
        predict_label(ensemble, random_image(shape), SETTINGS)
        jax.effects_barrier()
        assert COUNTS.batches - before == batches
    assert COUNTS.traces == 1
    assert count_compiled() == compiled + 1


def test_float16_images_are_computed_in_float32():
    image = random_image((10, 8, 8)).astype(np.float16)
    found = predict_probabilities(stack_models(voxel_model(Voxelwise())), image, SETTINGS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, voxelwise_probabilities(image.astype(np.float32)), atol=2e-6)


def test_probabilities_under_jit_are_the_same():
    image, model = jnp.asarray(random_image((13, 9, 16))), voxel_model(Positional())
    expected = probabilities(model, image)
    found = jax.jit(probabilities)(model, image)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(expected.sum(0), 1, atol=1e-6)


def test_probabilities_map_over_stacked_models(small_models):
    image = random_image(SMALL_SHAPE)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *small_models)
    found = jax.vmap(probabilities, in_axes=(0, None))(stacked, image)
    for model, one in zip(small_models, found, strict=True):
        np.testing.assert_allclose(one, probabilities(model, image), atol=1e-5)
    np.testing.assert_allclose(found.mean(0), probabilities(small_models, image), atol=1e-5)


def test_gradients_pass_to_image_and_parameters():
    """They equal central differences, with windows that overlap."""
    image = random_image((12, 9, 8))
    model = voxel_model(Positional())

    @jax.jit
    def tumor(model, image):
        return probabilities(model, image)[2].sum()

    by_model, by_image = jax.jit(jax.grad(tumor, argnums=(0, 1)))(model, image)
    assert jax.tree.structure(by_model) == jax.tree.structure(model)
    assert by_image.shape == image.shape
    step = 1e-2

    def difference(model_step, image_step):
        ahead, behind = (
            tumor(
                dataclasses.replace(model, params={"factors": FACTORS + sign * step * model_step}),
                (image + sign * step * image_step).astype(np.float32),
            )
            for sign in (1, -1)
        )
        return (ahead - behind) / 2 / step

    direction = random_image(image.shape, seed=1)
    by_direction = difference(np.zeros(4, np.float32), direction)
    np.testing.assert_allclose((by_image * direction).sum(), by_direction, rtol=1e-2)
    third = np.array([0, 0, 1, 0], np.float32)
    by_third = difference(third, np.zeros_like(image))
    np.testing.assert_allclose(by_model.params["factors"][2], by_third, rtol=1e-2)


def test_saliency_of_the_real_network(small_models):
    """It is finite everywhere, and almost nowhere 0."""
    image, model = jnp.asarray(random_image(SMALL_SHAPE)), small_models[0]
    saliency = jax.jit(jax.grad(lambda image: probabilities(model, image)[2].sum()))(image)
    assert jnp.isfinite(saliency).all()
    assert (saliency != 0).mean() > 0.9


def test_segment_finds_a_cube_on_the_native_grid():
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


def test_segment_interpolates_probabilities():
    """It is SciPy's interpolation, and not what the labels give."""
    volume = make_volume(random_image((14, 30, 26)), (4.0, 1.0, 1.2))
    by_label = voxel_model(Positional())
    settings = by_label.predict.model_copy(update={"resample": "probability"})
    model = dataclasses.replace(by_label, predict=settings)
    by_class = np.asarray(probabilities(model, preprocess(volume, model.preprocess)), float)
    zoom = np.divide(volume.shape, by_class.shape[1:])
    native = np.stack(
        [ndimage.zoom(one, zoom, order=1, mode="nearest", grid_mode=True) for one in by_class]
    )
    highest = np.sort(native, axis=0)
    clear = highest[-1] - highest[-2] > 1e-5
    label = segment(model, volume).array
    np.testing.assert_array_equal(label[clear], native.argmax(0)[clear])
    assert (label != segment(by_label, volume).array).mean() > 0.05


def test_segment_removes_what_holds_no_kidney():
    """A model without kidneys then finds nothing; by default components stay."""
    volume = make_volume(bright_cube(), (2.0, 2.0, 2.0))
    model = threshold_model()
    assert segment(model, volume).array.any()
    settings = model.predict.model_copy(update={"least_organ_ml": 0.001})
    assert not segment(dataclasses.replace(model, predict=settings), volume).array.any()


@pytest.mark.parametrize("resample", ["label", "probability"])
def test_segment_drops_unsure_lesions(resample):
    """Of two cubes the one stays whose voxels are surely above the threshold."""
    array = bright_cube()
    array[8:16, 10:20, 20:28] = 420
    # Another spacing than the network's, so that both ways back differ.
    volume, sure = make_volume(array, (3.0, 1.8, 1.8)), np.s_[:, :, :17]
    model = threshold_model()
    for least in (0.0, 0.5, 0.8, 1.0):
        update = {"resample": resample, "least_lesion_certainty": least}
        settings = model.predict.model_copy(update=update)
        found = segment(dataclasses.replace(model, predict=settings), volume).array
        assert found[sure].any() == (least < 1)
        assert found.any() == (least < 1)
        found[sure] = 0
        assert found.any() == (least < 0.8)


def test_segment_mirrors_when_asked():
    volume = make_volume(random_image((12, 12, 12)), (2.0, 2.0, 2.0))
    model = voxel_model(Positional())
    plain, mirrored = segment(model, volume), segment(model, volume, mirror=True)
    assert (plain.array != mirrored.array).any()
    always = dataclasses.replace(model, predict=model.predict.model_copy(update={"mirror": True}))
    np.testing.assert_array_equal(segment(always, volume).array, mirrored.array)
    np.testing.assert_array_equal(segment(always, volume, mirror=False).array, plain.array)


@pytest.mark.parametrize("dtype", [np.complex64, object])
def test_voxels_that_are_no_real_numbers(dtype):
    grid = make_volume(random_image((12, 12, 12)), (2.0, 2.0, 2.0)).grid
    with pytest.raises(TypeError, match="voxels are real numbers, not"):
        segment(threshold_model(), Volume(np.zeros((12, 12, 12), dtype), grid))
