"""The noise of a CT, with the spectrum of a reconstruction kernel."""

import numpy as np

from kitsjax.phantom.painting import Scene


def kernel_response(size: int, cutoff: float, elongation: float = 1.0) -> np.ndarray:
    """Return the amplitude of each frequency, as `rfft2` orders those of a slice.

    It is the ramp of filtered back projection times the low pass of a kernel.

    Args:
        size: voxels across a slice.
        cutoff: frequency, in cycles a voxel, at which the low pass falls to 1/e.
        elongation: how much longer than high the noise's grains are: 1 for those of a round body,
            more for the horizontal streaks of shoulders and hips.
    """
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], elongation * np.fft.rfftfreq(size))
    return (frequency + 0.02) * np.exp(-((frequency / cutoff) ** 2))


def add_noise(scene: Scene, deviation_hu: float, response: np.ndarray) -> None:
    """Add noise to each slice, of this standard deviation and spectrum."""
    size, rng = scene.image.shape[1], scene.rng
    white = np.fft.rfft2(rng.standard_normal((16, size, size), np.float32))
    patterns = np.fft.irfft2(white * response, (size, size)).astype(np.float32)
    patterns *= deviation_hu / patterns.std()
    # A slice gets one of the 16 patterns, shifted at random. No two slices are alike, and this
    # takes a tenth of the time that a pattern for each slice would.
    for plane in scene.image:
        shift = tuple(rng.integers(0, size, 2))
        plane += np.roll(patterns[rng.integers(len(patterns))], shift, (0, 1))
