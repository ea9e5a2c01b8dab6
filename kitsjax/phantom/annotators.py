"""The phantom's annotators, who draw every structure's surface a little differently."""

import numpy as np

from kitsjax.data.instances import Instance
from kitsjax.phantom.kidneys import PaintedStructure
from kitsjax.phantom.painting import Scene

ANNOTATORS = 3

OFFSET_MM, WAVINESS_MM, WAVELENGTH_MM = 0.2, 0.4, 18.0
"""The surface that an annotator draws is moved by a constant offset and by a smooth field.

The first two numbers are their standard deviations, the third is the scale on which the field
varies. With them the surfaces of two annotators differ as in KiTS21: the 95th percentiles are 1.0,
1.15 and 1.2 mm for kidney and masses, masses and tumor (in KiTS21 the tolerances of `labels`).
"""


def annotate(scene: Scene, painted: list[PaintedStructure]) -> list[Instance]:
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
