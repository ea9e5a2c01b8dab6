"""Augmentations of the intensities: each a function and one line of `INTENSITY`.

An augmentation depends on one sampled value. Its probability and its range are two fields of
`AugmentSettings`, which its line names.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from kitsjax.model.arrays import Scalar
from kitsjax.settings import AugmentSettings, Range
from kitsjax.train.spatial_points import ImagePatch

# Keeps divisions finite in a patch of one value; far below the noise of a normalized image.
EPSILON = 1e-7


class IntensityAugmentation(NamedTuple):
    """An augmentation of the intensities, which depends on one sampled value.

    Attributes:
        sample: samples the value from a range.
        adjust: changes the intensities by the value.
        read_settings: reads the augmentation's probability and range.
    """

    sample: Callable[[PRNGKeyArray, Range], Scalar]
    adjust: Callable[[ImagePatch, Scalar], ImagePatch]
    read_settings: Callable[[AugmentSettings], tuple[float, Range]]


def sample_uniform(key: PRNGKeyArray, limits: Range) -> Scalar:
    """Sample a number uniformly between the limits."""
    return jax.random.uniform(key, (), jnp.float32, *limits)


def sample_about_one(key: PRNGKeyArray, limits: Range) -> Scalar:
    """Sample a number below 1 or above 1 with equal chance, uniformly on either side, as nnU-Net.

    If 1 is not strictly between the limits, the number is uniform between them.
    """
    low, high = limits
    if not low < 1 < high:
        return sample_uniform(key, limits)
    side = sample_uniform(key, (-1.0, 1.0))
    return 1 + side * jnp.where(side < 0, 1 - low, high - 1)


def adjust_brightness(image: ImagePatch, factor: Scalar) -> ImagePatch:
    """Multiply the intensities by a factor."""
    return image * factor


def adjust_contrast(image: ImagePatch, factor: Scalar) -> ImagePatch:
    """Stretch the intensities about their mean and clip them to their former range."""
    mean = image.mean()
    return jnp.clip((image - mean) * factor + mean, image.min(), image.max())


def adjust_gamma(image: ImagePatch, exponent: Scalar) -> ImagePatch:
    """Raise the intensities to a power, as fractions of their range; keep mean and deviation."""
    low, high = image.min(), image.max()
    spread = high - low
    powered = ((image - low) / jnp.maximum(spread, EPSILON)) ** exponent * spread + low
    deviation = (powered - powered.mean()) / jnp.maximum(powered.std(), EPSILON)
    return deviation * image.std() + image.mean()


INTENSITY: dict[str, IntensityAugmentation] = {
    "brightness": IntensityAugmentation(
        sample_uniform, adjust_brightness, lambda s: (s.brightness, s.brightness_range)
    ),
    "contrast": IntensityAugmentation(
        sample_uniform, adjust_contrast, lambda s: (s.contrast, s.contrast_range)
    ),
    "gamma": IntensityAugmentation(
        sample_about_one, adjust_gamma, lambda s: (s.gamma, s.gamma_range)
    ),
}
"""The augmentations of the intensities by name, in the order in which they are applied."""
