"""Two small models of the real network with random parameters."""

import jax
import numpy as np
import pytest

from kitsjax.config import load_settings
from kitsjax.infer.bundle import make_model


@pytest.fixture(scope="session")
def small_settings():
    return load_settings(
        None,
        ["network.features=2", "network.deep_supervision=2", "sampling.patch_shape=[16, 16, 16]",
         "preprocess.spacing_mm=2", "predict.bucket=16", "predict.batch_size=2"],
    )  # fmt: skip


@pytest.fixture(scope="session")
def small_models(small_settings):
    window = jax.ShapeDtypeStruct((1, 16, 16, 16, 1), np.float32)
    network = make_model({}, small_settings).network
    shapes = jax.eval_shape(network.init, jax.random.key(0), window)["params"]

    # The network's own initialization would take longer to compile than the tests take.
    def draw(seed):
        rng = np.random.default_rng(seed)
        return jax.tree.map(lambda s: rng.normal(0, 1, s.shape).astype(s.dtype), shapes)

    return [make_model(draw(seed), small_settings) for seed in (0, 1)]
