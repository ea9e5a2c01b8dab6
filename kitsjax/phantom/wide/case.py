"""A case of the wide phantom: any body part, patient, phase and scanner, with exact labels.

`ranges` and `features` say what varies and how much, `patient` and `scan` draw it, the other
modules paint it. Painting, noise and annotators are those of the plain phantom.
"""

import numpy as np

from kitsjax.data.paint_instances import merge_annotations
from kitsjax.phantom.anatomy import paint_table
from kitsjax.phantom.annotators import annotate
from kitsjax.phantom.case import PhantomCase
from kitsjax.phantom.kidneys import PaintedStructure
from kitsjax.phantom.painting import Scene
from kitsjax.phantom.wide.bowel import paint_bowel
from kitsjax.phantom.wide.head import paint_head
from kitsjax.phantom.wide.kidneys import place_kidneys
from kitsjax.phantom.wide.masses import paint_masses, place_masses
from kitsjax.phantom.wide.organs import paint_organs
from kitsjax.phantom.wide.paint_kidney import paint_kidneys
from kitsjax.phantom.wide.patient import WidePatient, draw_patient
from kitsjax.phantom.wide.pelvis import paint_pelvis
from kitsjax.phantom.wide.scan import degrade, draw_scan
from kitsjax.phantom.wide.skeleton import paint_skeleton
from kitsjax.phantom.wide.thorax import paint_thorax
from kitsjax.phantom.wide.trunk import paint_trunk
from kitsjax.phantom.wide.vessels import paint_vessels

WIDE_VERSION = 4
"""Raise this number whenever the same seed gives other voxels than before."""


def make_wide_case(seed: int, n: int, matrix: int = 512) -> PhantomCase:
    """Make case `n` of a wide phantom; equal arguments give equal voxels.

    Args:
        seed: of the phantom.
        n: number of the case, which depends on (seed, n) alone.
        matrix: number of voxels across a slice.

    Returns:
        The case. It has no instances where the scan shows no kidney.
    """
    rng, texture_rng = np.random.default_rng([seed, n]).spawn(2)
    patient = draw_patient(rng)
    scan = draw_scan(rng, patient, matrix)
    scene = Scene(texture_rng, scan.shape, scan.spacing_mm, scan.first_mm, scan.reach_mm)
    if patient.region == "head":
        paint_head(rng, scene, patient)
        painted: list[PaintedStructure] = []
    else:
        painted = _paint_body(rng, scene, patient)
    if "table" in patient.features:
        paint_table(rng, scene, patient)
    degrade(rng, scene, patient)
    instances = annotate(scene, painted)
    return PhantomCase(
        image=np.clip(np.rint(scene.image), -3024, 3071).astype(np.int16),
        spacing_mm=scan.spacing_mm,
        instances=instances,
        labels=merge_annotations(instances, scan.shape),
        phase=patient.phase,
        features=(patient.region, *sorted(patient.features)),
    )


def _paint_body(
    rng: np.random.Generator, scene: Scene, patient: WidePatient
) -> list[PaintedStructure]:
    """Paint a body without its head; return the structures to segment."""
    body = paint_trunk(rng, scene, patient)
    paint_thorax(body)
    paint_skeleton(body)
    paint_bowel(body)
    paint_pelvis(body)
    paint_organs(body)
    paint_vessels(body)
    kidneys = place_kidneys(rng, patient)
    masses = place_masses(body, kidneys)
    return [*paint_kidneys(body, kidneys), *paint_masses(body, masses)]
