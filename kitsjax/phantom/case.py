"""A case of the phantom in memory: a synthetic contrast-enhanced abdomen, seeded, labels exact.

`painting` holds the CT volume with its partial volume, `anatomy` and `viscera` the body, `kidneys`
the structures to segment, `noise` and `annotators` what follows. This module puts them together;
`wide` is another phantom, made of the same parts, and `dataset` writes the files of either.
"""

import math
from dataclasses import dataclass

import numpy as np

from kitsjax.data.instances import Instance
from kitsjax.data.paint_instances import merge_annotations
from kitsjax.image.header import kits_affine
from kitsjax.phantom.anatomy import draw_patient, paint_table, paint_trunk
from kitsjax.phantom.annotators import annotate
from kitsjax.phantom.kidneys import paint_kidney, paint_mass, place_kidneys, place_masses
from kitsjax.phantom.noise import add_noise, kernel_response
from kitsjax.phantom.painting import Scene
from kitsjax.phantom.viscera import paint_viscera
from kitsjax.types import Spacing

VERSION = 1
"""Raise this number whenever the same seed gives other voxels than before."""

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
        features: what else the case shows, if its domain draws such things.
    """

    image: np.ndarray
    spacing_mm: Spacing
    instances: list[Instance]
    labels: dict[str, np.ndarray]
    phase: str
    features: tuple[str, ...] = ()

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
    # The noise is as strong as drawn where voxels are 0.78 mm wide; larger ones average some away.
    noise_hu = rng.uniform(9, 28) * min(1.0, (0.78 / pixel_mm) ** 0.5)
    add_noise(scene, noise_hu, kernel_response(matrix, texture_rng.uniform(0.16, 0.3)))

    instances = annotate(scene, painted)
    return PhantomCase(
        image=np.clip(np.rint(scene.image), -1024, 3071).astype(np.int16),
        spacing_mm=spacing,
        instances=instances,
        labels=merge_annotations(instances, shape),
        phase=patient.phase,
    )
