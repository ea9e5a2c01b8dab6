"""Made-up cases as NIfTI files, with scores and lesions, for the tests of Figures 3 and 6."""

import numpy as np

from kitsjax.evaluate.results import Lesion, Score
from kitsjax.image.header import kits_header
from kitsjax.image.write_nifti import write_label, write_volume
from kitsjax.labels import KITS, MAJORITY
from kitsjax.report.views import Files

SHAPE, SPACING_MM = (6, 80, 100), (5.0, 2.0, 2.5)
DICE = {"case_00001": 0.2, "case_00002": 0.9, "case_00003": 0.5}


def block(value, z=2, y=30, x=40):
    """A label map with one value in a block of 12 by 15 voxels on one slice."""
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[z, y : y + 12, x : x + 15] = value
    return label_map


def score_rows(dice, against=(MAJORITY,)):
    return tuple(
        Score(case_id, name, kind, 1, value, value, 5.0, 10.0, 10.0, 1)
        for kind in against
        for case_id, value in dice.items()
        for name in KITS.evaluation_keys
    )


def lesion(case_id="case_00001", label="tumor", volume_cm3=3.0, outcome="missed", z=4):
    return Lesion(case_id, "truth", label, 1, volume_cm3, outcome, 0.1, 0.1, 0.1, z)


def save_case(folder, case_id, prediction, truth, image=True):
    """Write a case's label maps, and a uniform CT."""
    header = kits_header(SHAPE, SPACING_MM)
    paths = [folder / f"{case_id}_{name}.nii.gz" for name in ("image", "prediction", "truth")]
    if image:
        write_volume(paths[0], np.full(SHAPE, 40.0, np.float32), header)
    write_label(paths[1], prediction, header)
    write_label(paths[2], truth, header)
    return Files(paths[0] if image else None, paths[1], paths[2])


def panels(drawing):
    """{case id: (prediction's axes, truth's axes)}."""
    axes = drawing.figure.axes
    columns = len(axes) // 2
    return {
        above.get_title().split("\n")[0].split()[-1]: (above, below)
        for above, below in zip(axes[:columns], axes[columns:], strict=True)
    }
