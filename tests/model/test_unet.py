"""The network: its published size, and properties seen through values and gradients."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.errors import InputError
from kitsjax.model.unet import Up, build_network, norm_relu, stage_features
from kitsjax.settings import NetworkSettings

PATCH = (16, 16, 16)
SMALL = NetworkSettings(features=4, max_features=6, deep_supervision=2, dtype="float32")


def small(**changes):
    return build_network(SMALL.model_copy(update=changes), PATCH)


@pytest.fixture(scope="module")
def image():
    return jax.random.normal(jax.random.key(1), (2, *PATCH, 1))


@pytest.fixture(scope="module")
def params(image):
    """Random everywhere, biases too; drawn by NumPy, as compiling `init` takes longest here."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(small().init, jax.random.key(0), image)

    def draw(leaf):
        fan_in = math.prod(leaf.shape[:-1])
        return jnp.asarray(rng.normal(size=leaf.shape) * math.sqrt(2 / fan_in), jnp.float32)

    return jax.tree.map(draw, shapes)


def value_and_gradient(network, params, image):
    def loss(params):
        return sum(jnp.sin(logits).sum() for logits in network.apply(params, image))

    return jax.jit(jax.value_and_grad(loss))(params)


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
def test_stages_stop_at_the_smallest_or_an_odd_edge(patch, smallest, stages):
    assert len(stage_features(patch, 8, 64, smallest)) == stages


@pytest.mark.parametrize("patch", [(33, 64, 64), (64, 6, 64)])
def test_a_patch_that_cannot_be_halved_is_refused(patch):
    with pytest.raises(InputError, match=r"^sampling\.patch_shape.*network\.smallest = 4$"):
        stage_features(patch, 8, 64, 4)


def test_more_heads_than_levels_are_refused():
    with pytest.raises(InputError, match=r"^network\.deep_supervision = 5 .* 4 decoder levels"):
        build_network(NetworkSettings(deep_supervision=5), (64, 64, 64))


def test_an_input_that_cannot_be_divided_is_refused():
    with pytest.raises(InputError, match=r"\(16, 18, 16\).* multiple of 4;"):
        jax.eval_shape(small().init, jax.random.key(0), jnp.zeros((1, 16, 18, 16, 1)))


@pytest.mark.parametrize(
    ("platform", "implementation", "dtype"),
    [("cpu", "planar", "float32"), ("gpu", "direct", "bfloat16"), ("tpu", "stacked", "bfloat16")],
)
def test_auto_follows_the_platform(platform, implementation, dtype):
    network = build_network(NetworkSettings(), (128, 128, 128), platform)
    assert (network.implementation, network.dtype) == (implementation, jnp.dtype(dtype))
    fixed = NetworkSettings(convolution="direct", dtype="float32")
    network = build_network(fixed, (128, 128, 128), platform)
    assert (network.implementation, network.dtype) == ("direct", jnp.float32)


def test_outputs_are_the_finest_levels_for_any_divisible_shape(params):
    image = jax.ShapeDtypeStruct((3, 8, 20, 32, 1), jnp.float32)
    outputs = jax.eval_shape(small().apply, params, image)
    assert [o.shape for o in outputs] == [(3, 8, 20, 32, 4), (3, 4, 10, 16, 4)]
    assert all(o.dtype == jnp.float32 for o in outputs)


@pytest.fixture(scope="module")
def planar_step(image, params):
    return value_and_gradient(small(convolution="planar"), params, image)


@pytest.mark.parametrize("changes", [{"convolution": "direct"}, {"remat": True}])
def test_form_and_remat_change_no_number(image, params, planar_step, changes):
    """One checkpoint serves every platform: the same parameters give the same results."""
    network = small(**changes)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, params)
    found = value_and_gradient(network, params, image)
    assert_trees_close(found, planar_step, 1e-5)


def test_bfloat16_is_close_to_float32(image, params):
    exact = small().apply(params, image)
    found = small(dtype="bfloat16").apply(params, image)
    for a, b in zip(found, exact, strict=True):
        assert a.dtype == jnp.float32
        assert 0 < float(jnp.abs(a - b).max()) < 0.05 * float(jnp.abs(b).max())


def test_samples_are_independent_and_the_center_sees_the_whole_patch(image, params):
    """The gradient of one voxel's logits: its own sample to the very edge, no other sample."""

    def center(image):
        return small().apply(params, image)[0][0, 8, 8, 8].sum()

    gradient = jax.jit(jax.grad(center))(image)
    assert (gradient[1] == 0).all()
    assert (gradient[0] != 0).all()


def test_receptive_field_without_the_norm_reaches_the_edge(image, params, monkeypatch):
    """The instance norm alone connects all voxels; the convolutions must do so without it."""
    monkeypatch.setattr("kitsjax.model.unet.norm_relu", lambda x, scale, shift: nn.leaky_relu(x))

    def center(image):
        return small().apply(params, image)[0][0, 8, 8, 8].sum()

    gradient = jax.jit(jax.grad(center))(image)[0, ..., 0]
    for axis in range(3):
        line = jnp.abs(gradient).max(axis=[a for a in range(3) if a != axis])
        assert (line > 0).all()


def norm_relu_by_definition(x, scale, shift):
    axes = (1, 2, 3)
    normal = (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + 1e-5)
    out = normal * scale + shift
    return jnp.where(out >= 0, out, 0.01 * out)


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_norm_is_right_wherever_the_mean_is(mean):
    x = mean + 2 * jax.random.normal(jax.random.key(0), (2, 8, 8, 8, 3))
    scale, shift = jnp.array([1.0, 2.0, 0.5]), jnp.array([0.0, 1.0, -1.0])
    exact = norm_relu_by_definition(np.asarray(x, np.float64), np.asarray(scale), np.asarray(shift))
    np.testing.assert_allclose(norm_relu(x, scale, shift), exact, atol=1e-4)


def test_gradient_of_the_norm_is_that_of_its_definition():
    keys = jax.random.split(jax.random.key(0), 2)
    x, weight = (jax.random.normal(key, (2, 4, 5, 6, 3)) for key in keys)
    operands = (3 + 2 * x, jnp.array([1.0, 2.0, -0.5]), jnp.array([0.0, 1.0, -1.0]))

    def gradients(function):
        def loss(*operands):
            return (weight * function(*operands)).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*operands)

    pairs = zip(gradients(norm_relu), gradients(norm_relu_by_definition), strict=True)
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_bias_before_the_norm_has_no_effect():
    """Why ConvNormRelu adds none."""
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 4, 3))
    bias = jnp.array([1.0, -2.0, 0.5])
    found = norm_relu(x + bias, jnp.ones(3), jnp.zeros(3))
    np.testing.assert_allclose(found, norm_relu(x, jnp.ones(3), jnp.zeros(3)), atol=1e-5)


def test_norm_of_a_constant_is_the_shift():
    shift = jnp.array([1.0, -2.0])
    found = norm_relu(jnp.full((1, 4, 4, 4, 2), 7.0), jnp.ones(2), shift)
    expected = jnp.broadcast_to(jnp.array([1.0, -0.02]), found.shape)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_up_is_a_transposed_convolution():
    """out[2 z + k, ...] = x[z, ...] @ kernel[k, ...] + bias: no overlap, none left out."""
    x = jax.random.normal(jax.random.key(0), (2, 2, 3, 4, 5))
    up = Up(3, jnp.float32, "direct")
    params = up.init(jax.random.key(1), x)
    params["params"]["bias"] = jnp.array([1.0, 2.0, 3.0])
    found = up.apply(params, x)
    # lax flips the kernel that it is given.
    kernel = params["params"]["kernel"][::-1, ::-1, ::-1]
    expected = jax.lax.conv_transpose(
        x, kernel, (2, 2, 2), "VALID", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    np.testing.assert_allclose(found, expected + jnp.array([1.0, 2.0, 3.0]), atol=1e-5)


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
