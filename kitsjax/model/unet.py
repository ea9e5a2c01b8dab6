"""The 3D U-Net of the paper in nnU-Net's form (N1-N3): the only Linen code."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from kitsjax.errors import InputError
from kitsjax.labels import CLASSES
from kitsjax.model.convolution import FASTEST_IMPLEMENTATION, Implementation, convolve, upsample
from kitsjax.settings import NetworkSettings

SLOPE = 0.01
"""Negative slope of the leaky ReLU (nnU-Net)."""

EPSILON = 1e-5
"""Added to the variance in the instance norm (nnU-Net, PyTorch's default)."""

_GAIN = 2 / (1 + SLOPE**2)


def _he_normal(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    return _draw(key, shape, math.prod(shape[:-1]), dtype)


def _he_normal_transposed(
    key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> Array:
    # PyTorch counts a transposed convolution's fan_in as output channels times kernel voxels.
    return _draw(key, shape, math.prod(shape[:-2]) * shape[-1], dtype)


def _draw(key: Array, shape: tuple[int, ...], fan_in: int, dtype: DTypeLike) -> Array:
    # As a vector: the same bits, and XLA compiles a draw of five axes several times slower.
    vector = jax.random.normal(key, (math.prod(shape),), dtype)
    return (math.sqrt(_GAIN / fan_in) * vector).reshape(shape)


class ConvNormRelu(nn.Module):
    """3x3x3 convolution with bias, instance norm, leaky ReLU."""

    features: int
    stride: int
    dtype: DTypeLike
    implementation: Implementation

    @nn.compact
    def __call__(self, x: Float[Array, "b z y x i"]) -> Float[Array, "b Z Y X o"]:
        shape = (3, 3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", _he_normal, shape)
        # nnU-Net's parameter, but the norm takes a channel's mean away and any bias with it:
        # adding it would change nothing and cost a pass over the voxels and a copy of them.
        self.param("bias", nn.initializers.zeros, (self.features,))
        scale = self.param("norm_scale", nn.initializers.ones, (self.features,))
        shift = self.param("norm_bias", nn.initializers.zeros, (self.features,))
        x = convolve(
            x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.implementation
        )
        return norm_relu(x, scale, shift)


@jax.custom_vjp
def norm_relu(
    x: Float[Array, "b z y x c"], scale: Float[Array, " c"], shift: Float[Array, " c"]
) -> Float[Array, "b z y x c"]:
    """Normalize each channel of each sample over its voxels, scale and shift, leaky ReLU.

    Statistics are float32 and take two passes (mean, then mean squared deviation): mean(x^2) -
    mean(x)^2 cancels badly where the mean is large. Returns x's dtype.

    The gradient is written out so that x and its statistics are all that is kept for it;
    derived automatically, float32 copies of x would be most of the training step's memory.
    """
    return _norm_relu_forward(x, scale, shift)[0]


def _norm_relu_forward(x: Array, scale: Array, shift: Array) -> tuple[Array, tuple[Array, ...]]:
    centered = x.astype(jnp.float32)
    mean = _voxel_mean(centered)
    centered -= mean
    inverse_deviation = lax.rsqrt(_voxel_mean(jnp.square(centered)) + EPSILON)
    out = nn.leaky_relu(centered * inverse_deviation * scale + shift, SLOPE)
    return out.astype(x.dtype), (x, mean, inverse_deviation, scale, shift)


def _norm_relu_backward(saved: tuple[Array, ...], gradient: Array) -> tuple[Array, Array, Array]:
    x, mean, inverse_deviation, scale, shift = saved
    normal = (x.astype(jnp.float32) - mean) * inverse_deviation
    slope = jnp.where(normal * scale + shift >= 0, 1, SLOPE)
    gradient = gradient.astype(jnp.float32) * slope
    shift_mean = _voxel_mean(gradient)
    scale_mean = _voxel_mean(gradient * normal)
    # A norm passes on no common shift of x and no common factor.
    inner = inverse_deviation * scale * (gradient - shift_mean - normal * scale_mean)
    voxels = math.prod(x.shape[1:4])
    batch_and_voxels = (0, 1, 2, 3)
    return (
        inner.astype(x.dtype),
        voxels * scale_mean.sum(batch_and_voxels),
        voxels * shift_mean.sum(batch_and_voxels),
    )


norm_relu.defvjp(_norm_relu_forward, _norm_relu_backward)


def _voxel_mean(x: Float[Array, "b z y x c"]) -> Float[Array, "b 1 1 1 c"]:
    return x.mean((1, 2, 3), keepdims=True)


class Block(nn.Module):
    """Two convolutions, the first of which may stride."""

    features: int
    stride: int
    dtype: DTypeLike
    implementation: Implementation

    @nn.compact
    def __call__(self, x: Float[Array, "b z y x i"]) -> Float[Array, "b Z Y X o"]:
        x = ConvNormRelu(self.features, self.stride, self.dtype, self.implementation, name="first")(
            x
        )
        return ConvNormRelu(self.features, 1, self.dtype, self.implementation, name="second")(x)


class Up(nn.Module):
    """2x2x2 transposed convolution of stride 2, with bias."""

    features: int
    dtype: DTypeLike
    implementation: Implementation

    @nn.compact
    def __call__(self, x: Float[Array, "b z y x i"]) -> Float[Array, "b 2*z 2*y 2*x o"]:
        kernel = self.param("kernel", _he_normal_transposed, (2, 2, 2, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = upsample(x.astype(self.dtype), kernel.astype(self.dtype), self.implementation)
        return x + bias.astype(self.dtype)


class Head(nn.Module):
    """1x1x1 convolution with bias to float32 logits."""

    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "b z y x i"]) -> Float[Array, "b z y x classes"]:
        kernel = self.param("kernel", _he_normal, (x.shape[-1], self.classes))
        bias = self.param("bias", nn.initializers.zeros, (self.classes,))
        product = jnp.dot(x, kernel.astype(x.dtype), preferred_element_type=jnp.float32)
        return product + bias


class UNet(nn.Module):
    """3D U-Net with deep supervision.

    Fully convolutional: every input axis must be a multiple of 2**(stages - 1). Parameters are
    float32 and have the same names and shapes whatever `implementation`, `dtype` and `remat`.

    Attributes:
        stage_features: channels of each encoder stage, finest first.
        deep_supervision: number of decoder levels with an output, finest first.
        classes: channels of the logits.
        dtype: computation; norm statistics and logits are float32 always.
        implementation: of the 3x3x3 convolutions, see `convolve`.
        remat: recompute each block's activations in the backward pass, for memory.
    """

    stage_features: tuple[int, ...]
    deep_supervision: int
    classes: int = len(CLASSES)
    dtype: DTypeLike = jnp.float32
    implementation: Implementation = "direct"
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b z y x 1"]) -> tuple[Float[Array, "b _ _ _ classes"], ...]:
        """Logits of `deep_supervision` levels, finest first; level n is the input halved n times."""
        stages = len(self.stage_features)
        check_divisible(x.shape[1:4], 2 ** (stages - 1))
        block = nn.remat(Block) if self.remat else Block
        skips = []
        for level, features in enumerate(self.stage_features):
            stride = 1 if level == 0 else 2
            x = block(features, stride, self.dtype, self.implementation, name=f"encoder_{level}")(x)
            skips.append(x)
        logits = []
        for level in reversed(range(stages - 1)):
            features = self.stage_features[level]
            x = Up(features, self.dtype, self.implementation, name=f"up_{level}")(x)
            x = jnp.concatenate([x, skips[level]], axis=-1)
            x = block(features, 1, self.dtype, self.implementation, name=f"decoder_{level}")(x)
            if level < self.deep_supervision:
                logits.append(Head(self.classes, name=f"head_{level}")(x))
        return tuple(reversed(logits))


def check_divisible(shape: tuple[int, ...], factor: int) -> None:
    """Raise InputError unless every axis of (z, y, x) is a multiple of `factor`."""
    if any(size % factor for size in shape):
        raise InputError(
            f"network input {shape}: each axis must be a multiple of {factor}; pad it to one"
        )


def stage_features(
    patch_shape: tuple[int, int, int], features: int, max_features: int, smallest: int
) -> tuple[int, ...]:
    """Channels of each stage (N1): doubled at each downsampling, at most `max_features`.

    The patch is halved while every axis is even and stays at least `smallest` voxels: a cube of
    128 with smallest = 4 gives six stages.

    Raises:
        InputError: the patch cannot be halved once.
    """
    halvings = min(
        min((axis & -axis).bit_length() - 1, int(math.log2(max(axis / smallest, 1))))
        for axis in patch_shape
    )
    if halvings < 1:
        raise InputError(
            f"sampling.patch_shape = {list(patch_shape)} cannot be halved once: make each axis "
            f"even and at least twice network.smallest = {smallest}"
        )
    return tuple(min(features * 2**stage, max_features) for stage in range(halvings + 1))


def build_network(
    settings: NetworkSettings,
    patch_shape: tuple[int, int, int],
    platform: str | None = None,
) -> UNet:
    """The network of these settings, with every "auto" resolved for the platform.

    Args:
        settings: section [network].
        patch_shape: training patch (z, y, x) in voxels; it sets the number of stages.
        platform: "cpu", "gpu" or "tpu"; None: where JAX computes by default.

    Raises:
        InputError: the patch cannot be halved, or there are more heads than decoder levels.
    """
    features = stage_features(
        patch_shape, settings.features, settings.max_features, settings.smallest
    )
    levels = len(features) - 1
    if settings.deep_supervision > levels:
        raise InputError(
            f"network.deep_supervision = {settings.deep_supervision} exceeds the {levels} decoder levels of "
            f"sampling.patch_shape = {list(patch_shape)} with network.smallest = "
            f"{settings.smallest}: set network.deep_supervision to at most {levels}, or make each axis of the "
            f"patch a multiple of {2**settings.deep_supervision} and at least "
            f"{2**settings.deep_supervision * settings.smallest}"
        )
    platform = platform or jax.default_backend()
    dtype = settings.dtype
    if dtype == "auto":
        dtype = "float32" if platform == "cpu" else "bfloat16"
    implementation: Implementation
    if settings.convolution == "auto":
        implementation = FASTEST_IMPLEMENTATION.get(platform, "direct")
    else:
        implementation = settings.convolution
    return UNet(
        stage_features=features,
        deep_supervision=settings.deep_supervision,
        dtype=jnp.dtype(dtype),
        implementation=implementation,
        remat=settings.remat,
    )
