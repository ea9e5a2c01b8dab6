"""Small pictures of a case: an axial and a coronal slice with the contours of the labels."""

from io import BytesIO

import numpy as np
from scipy import ndimage

from kitsjax.image.resample import interpolate_linear, linear_neighbors, resample_nearest
from kitsjax.image.volume import Volume
from kitsjax.labels import LabelScheme
from kitsjax.report.slice_panels import WINDOW_HU
from kitsjax.report.views import best_slice

LONGER_EDGE = 256
"""Pixels along the longer edge of a picture. Pages show it smaller, which keeps the lines fine."""

QUALITY = 75
"""JPEG's quality: 300 cases stay below 10 MB."""


def draw_case(image: Volume, label: np.ndarray | None, scheme: LabelScheme) -> tuple[bytes, ...]:
    """Draw the axial and the coronal slice that show most of a lesion, or else of another label.

    The patient's right is on the left; anterior, and in the coronal slice superior, is up.

    Args:
        image: CT in HU.
        label: label map (z, y, x) on the image's grid; None for middle slices without contours.
        scheme: its label scheme.

    Returns:
        The two pictures as JPEG files.
    """
    drawn = np.zeros(image.shape, np.uint8) if label is None else label
    z = best_slice(drawn, drawn, scheme)
    from_front = drawn.transpose(1, 0, 2)
    y = best_slice(from_front, from_front, scheme)
    mm_z, mm_y, mm_x = image.spacing_mm
    return (
        _draw(image.array[z], drawn[z], (mm_y, mm_x), scheme),
        _draw(image.array[:, y], drawn[:, y], (mm_z, mm_x), scheme),
    )


def _draw(
    plane: np.ndarray, labels: np.ndarray, spacing_mm: tuple[float, float], scheme: LabelScheme
) -> bytes:
    """Draw a plane with the contours of its labels, in square pixels, as a JPEG file."""
    from matplotlib.colors import to_rgb
    from matplotlib.image import imsave

    edges_mm = np.multiply(plane.shape, spacing_mm)
    pixel_mm = edges_mm.max() / LONGER_EDGE
    height, width = (max(1, round(edge / pixel_mm)) for edge in edges_mm)
    low, high = WINDOW_HU
    gray = np.clip((plane.astype(np.float32) - low) / (high - low), 0, 1)
    # Pixels that are left out below are averaged into their neighbors first.
    shape = (1, height, width)
    blur = [max(0.0, n / n_out - 1) / 2 for n, n_out in zip(gray.shape, shape[1:], strict=True)]
    smooth = ndimage.gaussian_filter(gray, blur)[None]
    neighbors = [linear_neighbors(*sizes) for sizes in zip(smooth.shape, shape, strict=True)]
    shown = np.repeat(interpolate_linear(smooth, neighbors)[0, ..., None], 3, axis=-1)
    small = resample_nearest(labels[None], shape)[0]
    for value in scheme.foreground:
        mask = small == value
        shown[mask & ~ndimage.binary_erosion(mask)] = to_rgb(scheme.color(value))
    picture = BytesIO()
    # Without subsampling, which would smear the colors of the thin contours.
    options = {"quality": QUALITY, "subsampling": 0, "optimize": True}
    pixels = np.rint(shown * 255).astype(np.uint8)
    imsave(picture, pixels, format="jpg", pil_kwargs=options)
    return picture.getvalue()
