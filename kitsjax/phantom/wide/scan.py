"""The scan of a wide phantom: field of view, voxels, and what degrades the image."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from kitsjax.phantom.noise import add_noise, kernel_response
from kitsjax.phantom.painting import Scene
from kitsjax.phantom.wide.features import REGIONS
from kitsjax.phantom.wide.patient import WidePatient
from kitsjax.types import Shape, Spacing

SLICE_MM = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)
SLICE_SHARE = (0.03, 0.05, 0.14, 0.08, 0.08, 0.12, 0.10, 0.14, 0.06, 0.17, 0.03)
"""Slice spacings are drawn with these probabilities."""

MOST_SLICES = 360

NOISE_HU = (3.0, 38.0)
"""Range of the noise's standard deviation in a voxel, whatever its size."""


class Scan(NamedTuple):
    """Where a scan's voxels lie about the patient.

    Attributes:
        shape: number of voxels (z, y, x).
        spacing_mm: voxel edges.
        first_mm: center of voxel (0, 0, 0).
        reach_mm: nothing of the body lies farther from the origin.
    """

    shape: Shape
    spacing_mm: Spacing
    first_mm: tuple[float, float, float]
    reach_mm: tuple[float, float, float]


def draw_scan(rng: np.random.Generator, patient: WidePatient, matrix: int) -> Scan:
    """Draw the field of view and the slices; `matrix` is the number of voxels across a slice."""
    region = REGIONS[patient.region]
    top, bottom = (rng.uniform(*span) * patient.tall for span in (region.top_mm, region.bottom_mm))
    slice_mm = max(float(rng.choice(SLICE_MM, p=SLICE_SHARE)), (bottom - top) / MOST_SLICES)
    slices = round((bottom - top) / slice_mm)
    half_x, half_y = 1.16 * patient.half_x_mm + 20, patient.belly * patient.half_y_mm + 20
    if patient.region == "head":
        half_x, half_y = 100, 120
    elif "arms" in patient.features:
        half_x += 120
    width = 2 * (100 if patient.region == "head" else patient.half_x_mm)
    fov_mm, off = width * rng.uniform(0.98, 1.25), rng.uniform(-12, 12, 2)
    if "zoomed" in patient.features:
        # The body is larger than the field of view, and not in its middle.
        fov_mm, off = width * rng.uniform(0.5, 0.85), rng.uniform(-0.12, 0.12, 2) * width
    pixel_mm = float(fov_mm) / matrix
    first = (float(top + slice_mm / 2), *(float(c + (pixel_mm - fov_mm) / 2) for c in off))
    return Scan(
        shape=(slices, matrix, matrix),
        spacing_mm=(slice_mm, pixel_mm, pixel_mm),
        first_mm=(first[0], first[1], first[2]),
        reach_mm=(np.inf, float(half_y), float(half_x)),
    )


def degrade(rng: np.random.Generator, scene: Scene, patient: WidePatient) -> None:
    """Add to a painted scene what a scanner does: metal, motion, blur, cupping, noise, padding."""
    features, size = patient.features, scene.image.shape[1]
    if "metal" in features:
        _add_metal(rng, scene, patient)
    if "motion" in features:
        _blur_by_motion(rng, scene)
    _filter(rng, scene, sharp="sharp kernel" in features)
    if "cupping" in features:
        _add_cupping(rng, scene)
    noise_hu = float(np.exp(rng.uniform(*np.log(NOISE_HU))))
    add_noise(scene, noise_hu, kernel_response(size, rng.uniform(0.16, 0.6)))
    if "streaks" in features:
        add_noise(scene, rng.uniform(4, 22), kernel_response(size, 0.25, rng.uniform(4, 12)))
    if "padding circle" in features:
        y, x = np.meshgrid(*(np.linspace(-1, 1, size),) * 2, indexing="ij")
        scene.image[:, np.hypot(y, x) > 1] = rng.choice([-1024, -2000, -3024])


def _add_metal(rng: np.random.Generator, scene: Scene, patient: WidePatient) -> None:
    """Add a hip, a screw or a clip of metal, with dark and bright streaks in its slices."""
    tall, scale = patient.tall, patient.half_x_mm / 165
    hip, screw = (248 * tall, 0, 90 * scale), (rng.uniform(-60, 80), patient.spine_y_mm + 5, 14)
    clip = (rng.uniform(-60, 60), rng.uniform(-20, 30), rng.uniform(30, 70))
    place, radius = [(hip, 18.0), (screw, 3.5), (clip, 2.5)][int(rng.integers(3))]
    side = rng.choice([-1, 1])
    z, y, x = scene.voxels
    depth = np.exp(-np.maximum(abs(z - place[0]) - radius, 0) / 3)
    dy, dx = np.meshgrid(y - place[1], x - side * place[2], indexing="ij")
    distance, angle = np.hypot(dy, dx), np.arctan2(dy, dx)
    rays = sum(rng.uniform(0.2, 1) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(2, 14))
    streaks = rng.uniform(10, 50) * radius**0.5 * rays / (1 + distance / 25)
    object_ = np.where(distance < radius, 3000.0, 0.0)
    for share, plane in zip(depth, scene.image, strict=True):
        if share > 0.02:
            body = plane > -500
            plane += (share * streaks * body + (share > 0.9) * object_).astype(np.float32)


def _blur_by_motion(rng: np.random.Generator, scene: Scene) -> None:
    """Double the contours of some slices, by one voxel forward and backward: breath and pulse."""
    z = np.arange(len(scene.image))
    period = rng.uniform(6, 40) / scene.spacing_mm[0]
    strength = np.clip(np.sin(2 * np.pi * (z / period + rng.random())), 0, 1) * rng.uniform(0.3, 1)
    for share, plane in zip(strength, scene.image, strict=True):
        if share > 0.05:
            moved = 0.5 * (np.roll(plane, 1, 0) + np.roll(plane, -1, 0))
            plane += np.float32(share) * (moved - plane)


def _filter(rng: np.random.Generator, scene: Scene, sharp: bool) -> None:
    """Blur by the kernel and by slices thicker than their spacing, or sharpen edges."""
    slice_mm, pixel_mm, _ = scene.spacing_mm
    blur_mm = rng.uniform(0.3, 1.6)
    thick_mm = rng.uniform(0, 2.5) if rng.random() < 0.4 else 0.0
    # A slice profile of a width w has a standard deviation of about w / 3.5.
    sigmas = (thick_mm / 3.5 / slice_mm, blur_mm / pixel_mm, blur_mm / pixel_mm)
    for axis, sigma in enumerate(sigmas):
        if sigma > 0.25:
            scene.image[...] = ndimage.gaussian_filter1d(
                scene.image, sigma, axis, mode="nearest", truncate=3
            )
    if sharp:
        low = ndimage.gaussian_filter(scene.image, (0, 1, 1), mode="nearest", truncate=2)
        scene.image += np.float32(rng.uniform(0.3, 1)) * (scene.image - low)


def _add_cupping(rng: np.random.Generator, scene: Scene) -> None:
    """Make the body's middle darker or brighter: beam hardening, and its correction."""
    _, y, x = scene.voxels
    share = np.hypot(*np.meshgrid(y / 120, x / 170, indexing="ij"))
    field = rng.uniform(-12, 8) * np.clip(1 - share**2, 0, 1)
    scene.image += field.astype(np.float32) * (scene.image > -500)
