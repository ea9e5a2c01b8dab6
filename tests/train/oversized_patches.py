"""Sources to augment: noise, and a ball whose place and size can be measured."""

import numpy as np
from scipy import ndimage


def noise(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
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
    """In voxels off the middle of the array."""
    return np.array(ndimage.center_of_mass(mask)) - (np.array(mask.shape) - 1) / 2
