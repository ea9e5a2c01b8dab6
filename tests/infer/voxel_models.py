"""Networks without convolutions, for which plain loops compute the same probabilities."""

import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kitsjax.config import load_settings
from kitsjax.infer.sliding_window import importance_map, window_positions
from kitsjax.infer.trained_model import Model
from kitsjax.labels import KITS

PATCH_SHAPE = (8, 8, 8)
FACTORS = np.array([0.0, 1.0, 2.0, -1.0], np.float32)


class Voxelwise(nn.Module):
    """A network that sees one voxel at a time: logits are factors times intensity."""

    @nn.compact
    def __call__(self, x):
        factors = self.param("factors", nn.initializers.zeros, (len(KITS.names),))
        return (x * factors.reshape(1, 1, 1, 1, -1),)


class Positional(Voxelwise):
    """It also sees where in the window a voxel lies, so that no two windows agree."""

    @nn.compact
    def __call__(self, x):
        z, y, w = np.meshgrid(*(np.arange(size) for size in x.shape[1:4]), indexing="ij")
        place = (z + 10 * y + 100 * w).astype(np.float32)
        return super().__call__(jnp.sin(x + place[None, ..., None]))


def voxel_model(network):
    settings = load_settings(None, ["preprocess.spacing_mm=2", "predict.bucket=16"])
    params = {"factors": jnp.asarray(FACTORS)}
    return Model(params, network, PATCH_SHAPE, settings.preprocess, settings.predict)


def random_image(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def voxelwise_probabilities(image):
    """The probabilities of `Voxelwise`, whatever the windows."""
    logits = FACTORS[:, None, None, None] * image
    exponentials = np.exp(logits - logits.max(0))
    return exponentials / exponentials.sum(0)


def naive_probabilities(model, image, settings):
    """Pad to the patch, sum weighted windows, divide by the sum of weights, in plain loops."""
    patch_shape = model.patch_shape
    short = np.maximum(0, np.subtract(patch_shape, image.shape))
    before = short // 2
    padded = np.pad(image, list(zip(before, short - before, strict=True)))
    weights = importance_map(patch_shape, settings.weighting)
    sums = np.zeros((len(KITS.names), *padded.shape))
    total = np.zeros(padded.shape)
    flips = [[]]
    if settings.mirror:
        flips = [list(axes) for n in range(4) for axes in itertools.combinations(range(3), n)]
    for position in window_positions(padded.shape, patch_shape, settings.step_size):
        window = tuple(slice(p, p + n) for p, n in zip(position, patch_shape, strict=True))
        for axes in flips:
            patch = np.flip(padded[window], axes)
            found = np.asarray(predict_window(model.network, model.params, patch))
            sums[:, *window] += weights * np.flip(found, [1 + axis for axis in axes]) / len(flips)
        total[window] += weights
    inside = tuple(slice(b, b + n) for b, n in zip(before, image.shape, strict=True))
    return (sums / total)[:, *inside]


@partial(jax.jit, static_argnames="network")
def predict_window(network, params, window):
    """The probabilities (class, z, y, x) of one window (z, y, x)."""
    logits = network.apply({"params": params}, window[None, ..., None])[0][0]
    return jnp.moveaxis(jax.nn.softmax(logits), -1, 0)
