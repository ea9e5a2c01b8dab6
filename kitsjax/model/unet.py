"""The paper's 3D U-Net, built of the same blocks as nnU-Net's: the only Linen modules."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from kitsjax.errors import InputError
from kitsjax.labels import KITS, LabelScheme
from kitsjax.model.arrays import Outputs
from kitsjax.model.convolution import FASTEST_IMPLEMENTATION, Implementation, convolve
from kitsjax.model.decoder import DecoderInput, convolve_decoder
from kitsjax.model.norm import SLOPE, norm_relu
from kitsjax.model.packing import Volumes
from kitsjax.settings import NetworkSettings
from kitsjax.types import Shape


def _he_normal(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    return _sample_normal(key, shape, math.prod(shape[:-1]), dtype)


def _he_normal_transposed(
    key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> Array:
    # PyTorch counts a transposed convolution's fan_in as output channels times kernel voxels.
    return _sample_normal(key, shape, math.prod(shape[:-2]) * shape[-1], dtype)


def _sample_normal(key: Array, shape: tuple[int, ...], fan_in: int, dtype: DTypeLike) -> Array:
    # A vector has the same bits, and XLA compiles samples of five axes several times slower.
    vector = jax.random.normal(key, (math.prod(shape),), dtype)
    variance = 2 / (1 + SLOPE**2) / fan_in
    return (math.sqrt(variance) * vector).reshape(shape)


class ConvNormRelu(nn.Module):
    """3x3x3 convolution with bias, instance norm, leaky ReLU."""

    features: int
    stride: int
    dtype: DTypeLike
    implementation: Implementation

    @nn.compact
    def __call__(self, x: Volumes | DecoderInput) -> Float[Array, "b Z Y X o"]:
        """Apply the three operations; with stride 2, halve every axis."""
        inputs = x.channels if isinstance(x, DecoderInput) else x.shape[-1]
        shape = (3, 3, 3, inputs, self.features)
        kernel = self.param("kernel", _he_normal, shape)
        # nnU-Net has this bias, so it stays among the parameters. It isn't added: the norm takes a
        # channel's mean away and any bias with it, so adding it would only cost time and memory.
        self.param("bias", nn.initializers.zeros, (self.features,))
        scale = self.param("norm_scale", nn.initializers.ones, (self.features,))
        shift = self.param("norm_bias", nn.initializers.zeros, (self.features,))
        if isinstance(x, DecoderInput):
            out = convolve_decoder(x, kernel, self.dtype, self.implementation)
        else:
            out = convolve(
                x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.implementation
            )
        return norm_relu(out, scale, shift)


class Block(nn.Module):
    """Two convolutions; the first may have a stride."""

    features: int
    stride: int
    dtype: DTypeLike
    implementation: Implementation

    @nn.compact
    def __call__(self, x: Volumes | DecoderInput) -> Float[Array, "b Z Y X o"]:
        """Apply both convolutions."""
        first = ConvNormRelu(
            self.features, self.stride, self.dtype, self.implementation, name="first"
        )
        second = ConvNormRelu(self.features, 1, self.dtype, self.implementation, name="second")
        return second(first(x))


class Up(nn.Module):
    """2x2x2 transposed convolution with stride 2 and bias, beside a skip connection."""

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b z y x i"], skip: Float[Array, "b 2*z 2*y 2*x s"]
    ) -> DecoderInput:
        """Describe the upsampled volume and the skip connection; the next convolution does both."""
        kernel = self.param("kernel", _he_normal_transposed, (2, 2, 2, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return DecoderInput(x, kernel, bias, skip)


class DeepSupervisionOutput(nn.Module):
    """1x1x1 convolution with bias from a decoder level's channels to float32 logits."""

    channels: int

    @nn.compact
    def __call__(self, x: Float[Array, "b z y x i"]) -> Float[Array, "b z y x k"]:
        """Compute the logits of every voxel."""
        kernel = self.param("kernel", _he_normal, (x.shape[-1], self.channels))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        product = jnp.dot(x, kernel.astype(x.dtype), preferred_element_type=jnp.float32)
        return product + bias.reshape(1, 1, 1, 1, -1)


class UNet(nn.Module):
    """3D U-Net with deep supervision.

    The network is fully convolutional: every input axis must be a multiple of 2**(stages - 1).
    Parameters are float32, and their names and shapes depend neither on `dtype` nor on
    `implementation` or `remat`.

    Attributes:
        stage_features: channels of each encoder stage, finest first.
        deep_supervision: number of decoder levels with an output, finest first.
        classes: number of classes, the background among them.
        regions: whether the logits are of regions (`kitsjax.model.regions`), one less than classes.
        dtype: dtype of the computation; norm statistics and logits are always float32.
        implementation: implementation of the convolutions, see `convolve`.
        remat: recompute each block's activations in the backward pass, to save memory.
    """

    stage_features: tuple[int, ...]
    deep_supervision: int
    classes: int
    regions: bool = False
    dtype: DTypeLike = jnp.float32
    implementation: Implementation = "direct"
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b z y x 1"]) -> Outputs:
        """Compute the logits of `deep_supervision` levels; level n halves each axis n times."""
        stages = len(self.stage_features)
        channels = self.classes - 1 if self.regions else self.classes
        _check_divisible(x.shape[1:4], 2 ** (stages - 1))
        block = nn.remat(Block) if self.remat else Block
        skips = []
        for level, features in enumerate(self.stage_features):
            stride = 1 if level == 0 else 2
            x = block(features, stride, self.dtype, self.implementation, name=f"encoder_{level}")(x)
            skips.append(x)
        logits = []
        for level in reversed(range(stages - 1)):
            features = self.stage_features[level]
            both = Up(features, name=f"up_{level}")(x, skips[level])
            x = block(features, 1, self.dtype, self.implementation, name=f"decoder_{level}")(both)
            if level < self.deep_supervision:
                # "head" is the name in every model file.
                output = DeepSupervisionOutput(channels, name=f"head_{level}")
                logits.append(output(x))
        return tuple(reversed(logits))


def _check_divisible(shape: tuple[int, ...], factor: int) -> None:
    if any(size % factor for size in shape):
        raise InputError(
            f"network input {shape}: each axis must be a multiple of {factor}; pad it to one"
        )


def stage_features(
    patch_shape: Shape, features: int, max_features: int, smallest: int
) -> tuple[int, ...]:
    """List the channels of each stage: they double at each downsampling, up to `max_features`.

    The patch is halved while every axis is even and stays at least `smallest` voxels: a cube of
    128 with smallest = 4 gives six stages.

    Args:
        patch_shape: training patch (z, y, x) in voxels.
        features: channels of the first stage.
        max_features: limit of a stage's channels.
        smallest: least edge in voxels that the patch is downsampled to.

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
    patch_shape: Shape,
    platform: str | None = None,
    *,
    scheme: LabelScheme = KITS,
    regions: bool = False,
) -> UNet:
    """Build the network of these settings, with every "auto" resolved for the platform.

    Args:
        settings: section [network].
        patch_shape: training patch (z, y, x) in voxels; it sets the number of stages.
        platform: "cpu", "gpu" or "tpu"; None means the one where JAX computes by default.
        scheme: the labels; the background and they are the classes.
        regions: the setting loss.regions: whether the logits are of regions.

    Raises:
        InputError: the patch cannot be halved, or `deep_supervision` exceeds its decoder levels.
    """
    features = stage_features(
        patch_shape, settings.features, settings.max_features, settings.smallest
    )
    levels, outputs = len(features) - 1, settings.deep_supervision
    if outputs > levels:
        raise InputError(
            f"network.deep_supervision = {outputs} exceeds the {levels} decoder levels of "
            f"sampling.patch_shape = {list(patch_shape)} with network.smallest = "
            f"{settings.smallest}: set network.deep_supervision to at most {levels}, or make each "
            f"axis of the patch a multiple of {2**outputs} and at least "
            f"{2**outputs * settings.smallest}"
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
        deep_supervision=outputs,
        classes=len(scheme.names),
        regions=regions,
        dtype=jnp.dtype(dtype),
        implementation=implementation,
        remat=settings.remat,
    )
