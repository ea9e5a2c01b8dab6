"""Augmentations of the intensities: their settings, and known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oversized_patches import noise

from kitsjax.settings import AugmentSettings
from kitsjax.train import intensity

PATCH = (24, 20, 22)


@pytest.mark.parametrize("name", intensity.INTENSITY)
def test_intensity_settings_are_those_of_the_name(name):
    settings = AugmentSettings(**{name: 0.25, f"{name}_range": (0.5, 2.0)})
    assert intensity.INTENSITY[name].read_settings(settings) == (0.25, (0.5, 2.0))


@pytest.mark.parametrize("limits", [(0.5, 0.9), (1.2, 1.5), (1.0, 1.0)])
def test_gamma_range_need_not_contain_one(limits):
    keys = jax.random.split(jax.random.key(0), 100)
    values = jax.vmap(lambda key: intensity.sample_about_one(key, limits))(keys)
    assert values.min() >= limits[0] - 1e-6
    assert values.max() <= limits[1] + 1e-6


@pytest.mark.parametrize("name", intensity.INTENSITY)
@pytest.mark.parametrize("constant", [0.0, -3.5, 1000.0])
def test_a_constant_patch_stays_finite(name, constant):
    augmentation = intensity.INTENSITY[name]
    _, limits = augmentation.read_settings(AugmentSettings())
    for value in limits:
        adjusted = augmentation.adjust(jnp.full(PATCH, constant), jnp.float32(value))
        assert bool(jnp.isfinite(adjusted).all())
        if name != "brightness":
            np.testing.assert_allclose(adjusted, constant, rtol=1e-5)


@pytest.mark.parametrize("name", intensity.INTENSITY)
def test_a_value_of_one_changes_nothing(name):
    image, _ = noise(PATCH)
    adjusted = intensity.INTENSITY[name].adjust(jnp.asarray(image), jnp.float32(1))
    np.testing.assert_allclose(adjusted, image, atol=2e-5)


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_contrast_stretches_about_the_mean(factor):
    image, _ = noise(PATCH)
    adjusted = np.asarray(intensity.adjust_contrast(jnp.asarray(image), factor))
    mean = image.mean()
    expected = np.clip((image - mean) * factor + mean, image.min(), image.max())
    np.testing.assert_allclose(adjusted, expected, atol=1e-5)
    assert adjusted.min() >= image.min()
    assert adjusted.max() <= image.max()


@pytest.mark.parametrize("exponent", [0.7, 1.5])
def test_gamma_keeps_order_mean_and_deviation(exponent):
    image, _ = noise(PATCH)
    adjusted = np.asarray(intensity.adjust_gamma(jnp.asarray(image), exponent))
    np.testing.assert_allclose(adjusted.mean(), image.mean(), atol=1e-4)
    np.testing.assert_allclose(adjusted.std(), image.std(), rtol=1e-4)
    assert np.all(np.diff(adjusted.ravel()[np.argsort(image, axis=None)]) >= 0)


def test_gamma_is_the_known_answer():
    image = jnp.array([[[2.0, 4.0, 6.0]]])
    # Fractions 0, 1/2, 1 squared: 0, 1/4, 1, of mean 5/12; then mean 4 and variance 8/3 again.
    powered = np.array([0, 1 / 4, 1])
    expected = (powered - 5 / 12) / np.sqrt(13 / 72) * np.sqrt(8 / 3) + 4
    np.testing.assert_allclose(intensity.adjust_gamma(image, 2.0)[0, 0], expected, rtol=1e-5)
