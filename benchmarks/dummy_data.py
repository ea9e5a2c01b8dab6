"""Dummy data to train on: noise and random labels."""

import numpy as np

from kitsjax.labels import KITS
from kitsjax.types import Shape


def make_patches(patch_shape: Shape, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Make images with the intensities of normalized ones, and labels; equal at every call.

    Returns:
        Images, float32, and labels, uint8; (b, z, y, x) each.
    """
    rng, shape = np.random.default_rng(0), (batch_size, *patch_shape)
    image = rng.standard_normal(shape, np.float32)
    return image, rng.integers(0, len(KITS.names), shape, np.uint8)


def make_batch(patch_shape: Shape, batch_size: int, dtype: str) -> dict[str, np.ndarray]:
    """Make a batch for kitsjax's train step, before it is divided among the devices.

    Args:
        dtype: type of the images, `preprocess.dtype` of the settings.
    """
    image, label = make_patches(patch_shape, batch_size)
    index = np.arange(batch_size, dtype=np.int32)
    return {"image": image.astype(dtype), "label": label, "index": index}
