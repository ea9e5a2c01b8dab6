"""A case of the phantom in memory: a synthetic contrast-enhanced abdomen, seeded, labels exact.

`painting` holds the CT volume with its partial volume, `anatomy` and `viscera` the body, `kidneys`
the structures to segment. This module adds the acquisition (spacing and noise) and the annotators;
`dataset` writes the files.
"""

import math
from dataclasses import dataclass

import numpy as np

from kitsjax.data.instances import Instance
from kitsjax.data.paint_instances import merge_annotations
from kitsjax.image.header import kits_affine
from kitsjax.phantom.anatomy import draw_patient, paint_table, paint_trunk
from kitsjax.phantom.kidneys import (
    PaintedStructure,
    paint_kidney,
    paint_mass,
    place_kidneys,
    place_masses,
)
from kitsjax.phantom.painting import Scene
from kitsjax.phantom.viscera import paint_viscera
from kitsjax.types import Spacing

VERSION = 1
"""Raise this number whenever the same seed gives other voxels than before."""

ANNOTATORS = 3

OFFSET_MM, WAVINESS_MM, WAVELENGTH_MM = 0.2, 0.4, 18.0
"""The surface that an annotator draws is moved by a constant offset and by a smooth field.

The first two numbers are their standard deviations, the third is the scale on which the field
varies. With them the surfaces of two annotators differ as in KiTS21: the 95th percentiles are 1.0,
1.15 and 1.2 mm for kidney and masses, masses and tumor (in KiTS21 the tolerances of `labels`).
"""

SLICE_MM = (0.5, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
SLICE_SHARE = (0.03, 0.03, 0.10, 0.10, 0.04, 0.08, 0.10, 0.20, 0.06, 0.26)
"""Slice spacings are drawn with these probabilities; as in KiTS21 their median is 3 mm."""


@dataclass(frozen=True)
class PhantomCase:
    """A case in memory; the array axes (z, y, x) point inferior, posterior and left.

    Attributes:
        image: the CT in HU, int16.
        spacing_mm: voxel edges (z, y, x).
        instances: kidneys, tumors and cysts, each with the masks of three annotators.
        labels: the merged labels, uint8, by rule: "MAJ", "AND" and "OR", as KiTS21 names them.
        phase: the contrast phase.
    """

    image: np.ndarray
    spacing_mm: Spacing
    instances: list[Instance]
    labels: dict[str, np.ndarray]
    phase: str

    @property
    def affine(self) -> np.ndarray:
        """The affine, 4x4, from index (z, y, x, 1) to RAS+ mm, as in KiTS21's files."""
        return kits_affine(self.spacing_mm)


def make_case(seed: int, n: int, matrix: int = 512) -> PhantomCase:
    """Make case `n` of a phantom; equal arguments give equal voxels.

    `matrix` is the number of voxels across a slice. The field of view of 350 to 450 mm does not
    depend on it, so a smaller one shows much the same patient in larger voxels. Slices are 0.5 to
    5 mm apart and cover 180 to 260 mm. One core takes about 3 s and at most 1.5 GB at a matrix of
    512, and 0.3 s at 64.
    """
    # The matrix decides how many numbers textures and noise draw. The anatomy has a generator of
    # its own, so that it does not change with the matrix.
    rng, texture_rng = np.random.default_rng([seed, n]).spawn(2)

    # The acquisition: field of view, slices, and where the volume lies about the patient.
    fov_mm = float(rng.uniform(350, 450))
    pixel_mm = fov_mm / matrix
    slice_mm = float(rng.choice(SLICE_MM, p=SLICE_SHARE))
    extent_mm = max(180.0, min(float(rng.uniform(180, 260)), 240 * slice_mm))
    shape = (round(extent_mm / slice_mm), matrix, matrix)
    spacing = (slice_mm, pixel_mm, pixel_mm)
    center_mm = rng.uniform([-4, -10, -10], [12, 10, 10])
    corner = center_mm - np.array([extent_mm, fov_mm, fov_mm]) / 2

    patient = draw_patient(rng, fov_mm)
    # No tissue lies farther out than the trunk, so the lattice can end there.
    reach = (math.inf, patient.half_y_mm + 20, patient.half_x_mm + 20)
    scene = Scene(texture_rng, shape, spacing, tuple(corner), reach)
    cavity = paint_trunk(rng, scene, patient)
    paint_viscera(rng, scene, patient, cavity)
    kidneys = place_kidneys(rng, patient)
    masses = place_masses(rng, scene, kidneys, cavity)
    painted = [paint_kidney(rng, scene, patient, kidney, cavity) for kidney in kidneys]
    painted += [paint_mass(rng, scene, patient, mass, cavity) for mass in masses]
    paint_table(rng, scene, patient)
    _add_noise(rng.uniform(9, 28), scene)

    instances = _annotate(scene, painted)
    return PhantomCase(
        image=np.clip(np.rint(scene.image), -1024, 3071).astype(np.int16),
        spacing_mm=spacing,
        instances=instances,
        labels=merge_annotations(instances, shape),
        phase=patient.phase,
    )


def _add_noise(strength_hu: float, scene: Scene) -> None:
    """Add noise to each slice with the spectrum of a reconstruction kernel.

    Its standard deviation is `strength_hu` for voxels of 0.78 mm across a slice; larger voxels
    average some of it away.
    """
    size, rng = scene.image.shape[1], scene.rng
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    # The ramp of filtered back projection times the low pass of a kernel of random smoothness.
    response = (frequency + 0.02) * np.exp(-((frequency / rng.uniform(0.16, 0.3)) ** 2))
    white = np.fft.rfft2(rng.standard_normal((16, size, size), np.float32))
    patterns = np.fft.irfft2(white * response, (size, size)).astype(np.float32)
    patterns *= strength_hu * min(1.0, (0.78 / scene.spacing_mm[1]) ** 0.5) / patterns.std()
    # A slice gets one of the 16 patterns, shifted at random. No two slices are alike, and this
    # takes a tenth of the time that a pattern for each slice would.
    for plane in scene.image:
        shift = tuple(rng.integers(0, size, 2))
        plane += np.roll(patterns[rng.integers(len(patterns))], shift, (0, 1))


def _annotate(scene: Scene, painted: list[PaintedStructure]) -> list[Instance]:
    """Draw three annotators' masks of each structure: its surface moved at random."""
    instances: list[Instance] = []
    for kind, level, region in painted:
        distance = scene.distance_mm(level)
        masks = []
        for _ in range(ANNOTATORS):
            constant = scene.rng.normal(0, OFFSET_MM)
            offset = constant + WAVINESS_MM * scene.noise(region, WAVELENGTH_MM)
            box, moved = scene.to_voxels(distance + offset, region)
            masks.append(moved < 0)
        # A small cyst may fall between large voxels: it is left out.
        if all(mask.any() for mask in masks):
            number = 1 + sum(known.kind == kind for known in instances)
            instances.append(Instance(kind, number, box, np.stack(masks)))
    return instances
