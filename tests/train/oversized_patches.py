"""Oversized patches to augment: noise, and a ball that can be measured; and their resampling."""

from functools import partial

import jax
import numpy as np
from scipy import ndimage

from kitsjax.train import spatial

# Half of the time that compiling takes is LLVM's for optimizations, which small arrays don't need.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

IMPLEMENTATIONS = ("gathers", "products")
LEAST_SCALE = 0.5

_compiled = quick_jit(spatial.resample, static_argnums=(2, 4, 5))


def noise(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image and a label in which each voxel is sampled by itself."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=shape).astype(np.float32)
    return image, rng.choice([0, 2, 3], size=shape).astype(np.uint8)


def ball(shape: tuple[int, ...], center: tuple[float, ...], radius: float) -> np.ndarray:
    """A ball, 1/2 at its radius and 0 or 1 four voxels away; center in voxels off the middle."""
    middle = (np.array(shape) - 1) / 2 + np.array(center)
    grid = np.moveaxis(np.indices(shape), 0, -1)
    distance = np.linalg.norm(grid - middle, axis=-1)
    return np.clip((radius - distance) / 8 + 0.5, 0, 1).astype(np.float32)


def centroid(mask: np.ndarray) -> np.ndarray:
    """The center of mass, in voxels off the middle of the array."""
    return np.array(ndimage.center_of_mass(mask)) - (np.array(mask.shape) - 1) / 2


def resample(
    image: np.ndarray,
    label: np.ndarray,
    patch_shape: tuple[int, int, int],
    angles_rad: np.ndarray,
    scale: float,
    implementation: str,
) -> tuple[jax.Array, jax.Array]:
    """`spatial.resample`, compiled once for each shape and implementation."""
    transform = spatial.SpatialTransform(angles_rad, scale)
    return _compiled(image, label, patch_shape, transform, LEAST_SCALE, implementation)
