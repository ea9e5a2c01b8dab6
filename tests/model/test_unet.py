"""The network: its published size, and properties seen through values and gradients."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.errors import InputError
from kitsjax.model.unet import build_network, stage_features
from kitsjax.settings import NetworkSettings

PATCH = (16, 16, 16)
SMALL = NetworkSettings(features=4, max_features=6, deep_supervision=2, dtype="float32")


def small(**changes):
    return build_network(SMALL.model_copy(update=changes), PATCH)


# "direct" compiles fastest; another implementation is tested against it.
DIRECT = small(convolution="direct")


@pytest.fixture(scope="module")
def image():
    return jax.random.normal(jax.random.key(1), (2, *PATCH, 1))


@pytest.fixture(scope="module")
def params(image):
    """Random everywhere, biases too; drawn by NumPy, as compiling `init` takes longest here."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(DIRECT.init, jax.random.key(0), image)

    def draw(leaf):
        fan_in = math.prod(leaf.shape[:-1])
        return jnp.asarray(rng.normal(size=leaf.shape) * math.sqrt(2 / fan_in), jnp.float32)

    return jax.tree.map(draw, shapes)


def forward_and_backward(network):
    """Compile (params, image, gradient of the outputs) -> (outputs, gradients of both)."""

    @jax.jit
    def program(params, image, output_gradients):
        outputs, pullback = jax.vjp(network.apply, params, image)
        return outputs, pullback(output_gradients)

    return program


@pytest.fixture(scope="module")
def direct_program():
    return forward_and_backward(DIRECT)


@pytest.fixture(scope="module")
def output_gradients():
    """Random, so that all of the network's gradient comes into play."""
    keys = jax.random.split(jax.random.key(2), 2)
    return tuple(
        jax.random.normal(key, (2, *(n // 2**level for n in PATCH), 4))
        for level, key in enumerate(keys)
    )


@pytest.fixture(scope="module")
def direct_results(direct_program, params, image, output_gradients):
    return direct_program(params, image, output_gradients)


def center_gradient(logits):
    """The gradient that chooses the center of the first sample, all its classes."""
    return jnp.zeros_like(logits).at[0, 8, 8, 8].set(1)


def assert_trees_close(found, expected, rtol):
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=rtol * scale)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # nnU-Net's own network at this size (nnU-Net 2.8.1).
        ({"max_features": 320, "deep_supervision": 5}, 31_197_204),
        # The paper's text: channels double without a cap.
        ({}, 90_488_144),
    ],
)
def test_parameter_count(changes, expected):
    patch = (128, 128, 128)
    network = build_network(NetworkSettings(**changes), patch)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 32, 1)))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == expected
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes))


def test_stage_features_of_the_paper():
    paper = stage_features((128, 128, 128), 32, 1024, 4)
    assert paper == (32, 64, 128, 256, 512, 1024)
    assert stage_features((128, 128, 128), 32, 320, 4) == (32, 64, 128, 256, 320, 320)


@pytest.mark.parametrize(
    ("patch", "smallest", "stages"),
    [
        ((64, 64, 64), 4, 5),
        ((64, 128, 128), 4, 5),  # the shortest axis decides
        ((64, 96, 96), 4, 5),
        ((40, 40, 40), 4, 4),  # 40 -> 5, which is odd
        ((64, 64, 64), 5, 4),  # 64 -> 8: 4 would be below 5
        ((8, 8, 8), 4, 2),
    ],
)
def test_stages_stop_at_the_smallest_or_odd_edge(patch, smallest, stages):
    assert len(stage_features(patch, 8, 64, smallest)) == stages


@pytest.mark.parametrize("patch", [(33, 64, 64), (64, 6, 64)])
def test_patch_that_cannot_be_halved_is_refused(patch):
    with pytest.raises(InputError, match=r"^sampling\.patch_shape.*network\.smallest = 4$"):
        stage_features(patch, 8, 64, 4)


def test_more_outputs_than_levels_are_refused():
    with pytest.raises(InputError, match=r"^network\.deep_supervision = 5 .* 4 decoder levels"):
        build_network(NetworkSettings(deep_supervision=5), (64, 64, 64))


def test_input_of_an_odd_size_is_refused():
    with pytest.raises(InputError, match=r"\(16, 18, 16\).* multiple of 4;"):
        jax.eval_shape(small().init, jax.random.key(0), jnp.zeros((1, 16, 18, 16, 1)))


@pytest.mark.parametrize(
    ("platform", "implementation", "dtype"),
    [("cpu", "planar", "float32"), ("gpu", "merged", "bfloat16"), ("tpu", "stacked", "bfloat16")],
)
def test_auto_follows_the_platform(platform, implementation, dtype):
    network = build_network(NetworkSettings(), (128, 128, 128), platform)
    assert (network.implementation, network.dtype) == (implementation, jnp.dtype(dtype))
    fixed = NetworkSettings(convolution="direct", dtype="float32")
    network = build_network(fixed, (128, 128, 128), platform)
    assert (network.implementation, network.dtype) == ("direct", jnp.float32)


def test_outputs_are_the_finest_levels(params):
    image = jax.ShapeDtypeStruct((3, 8, 20, 32, 1), jnp.float32)
    outputs = jax.eval_shape(small().apply, params, image)
    assert [o.shape for o in outputs] == [(3, 8, 20, 32, 4), (3, 4, 10, 16, 4)]
    assert all(o.dtype == jnp.float32 for o in outputs)


@pytest.mark.parametrize("changes", [{"convolution": "planar"}, {"remat": True}])
def test_implementation_and_remat_keep_numbers(
    changes, image, params, direct_results, output_gradients
):
    """One checkpoint serves every platform: the same parameters give the same results."""
    network = small(**{"convolution": "direct"} | changes)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, params)
    outputs, gradients = forward_and_backward(network)(params, image, output_gradients)
    assert_trees_close(outputs, direct_results[0], 1e-5)
    assert_trees_close(gradients, direct_results[1], 1e-5)


def test_bfloat16_is_close_to_float32(image, params, direct_results):
    exact, _ = direct_results
    found = jax.jit(small(dtype="bfloat16").apply)(params, image)
    for a, b in zip(found, exact, strict=True):
        assert a.dtype == jnp.float32
        assert 0 < float(jnp.abs(a - b).max()) < 0.05 * float(jnp.abs(b).max())


def test_samples_are_independent(image, params, direct_program, direct_results):
    """The gradient of one voxel's logits reaches all of its own sample and no other sample."""
    chosen = (center_gradient(direct_results[0][0]), jnp.zeros_like(direct_results[0][1]))
    _, (_, gradient) = direct_program(params, image, chosen)
    assert (gradient[1] == 0).all()
    assert (gradient[0] != 0).all()


def test_receptive_field_reaches_the_edge(image, params, monkeypatch):
    """The instance norm alone connects all voxels; the convolutions must do so without it."""
    monkeypatch.setattr("kitsjax.model.unet.norm_relu", lambda x, scale, shift: nn.leaky_relu(x))

    @jax.jit
    def image_gradient(image):
        logits, pullback = jax.vjp(lambda image: DIRECT.apply(params, image)[0], image)
        return pullback(center_gradient(logits))[0]

    gradient = image_gradient(image)[0, ..., 0]
    for axis in range(3):
        line = jnp.abs(gradient).max(axis=[a for a in range(3) if a != axis])
        assert (line > 0).all()


def test_initialization_is_nnunets():
    """He-normal with a = 0.01; a transposed convolution's fan counts its output channels."""
    network = build_network(NetworkSettings(features=32, deep_supervision=1), (8, 8, 8))
    x = jnp.zeros((1, 8, 8, 8, 1))
    params = nn.meta.unbox(jax.jit(network.init)(jax.random.key(0), x))["params"]
    gain = 2 / (1 + 0.01**2)
    for fan, kernel in (
        (27 * 64, params["encoder_1"]["second"]["kernel"]),
        (8 * 32, params["up_0"]["kernel"]),
    ):
        assert float(kernel.std()) == pytest.approx(math.sqrt(gain / fan), rel=0.03)
    biases = [leaf for path, leaf in jax.tree.leaves_with_path(params) if "'bias'" in str(path)]
    assert len(biases) == 8
    assert all((bias == 0).all() for bias in biases)
