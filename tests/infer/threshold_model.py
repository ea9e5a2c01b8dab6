"""A model that needs no training: it finds voxels above an intensity."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from kitsjax.config import load_settings
from kitsjax.infer.trained_model import Model


class Threshold(nn.Module):
    implementation: str = "direct"
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x):
        cut = self.param("cut", nn.initializers.zeros, ())
        return (jnp.concatenate([cut - x, cut - x - 9, x - cut, cut - x - 9], axis=-1),)


def threshold_model():
    """Label 2 (tumor) above normalized intensity 1.5, else background."""
    settings = load_settings(
        None, ["preprocess.spacing_mm=2", "preprocess.dtype=float32", "predict.bucket=16"]
    )
    params = {"cut": jnp.array(1.5)}
    return Model(params, Threshold(), (16, 16, 16), settings.preprocess, settings.predict)


def bright_cube(shape=(20, 30, 30)):
    """0 HU with an off-center cube of 1000 HU."""
    array = np.zeros(shape, np.float32)
    array[8:16, 10:20, 6:14] = 1000
    return array
