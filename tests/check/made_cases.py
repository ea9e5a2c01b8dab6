"""Checked cases made in memory, for the tests of what shows them."""

import numpy as np

from kitsjax.check.checked_case import AnnotatorFacts, CheckedCase, ImageFacts, LabelFacts
from kitsjax.check.findings import Finding
from kitsjax.image.volume import make_volume

GRID = make_volume(np.zeros((4, 6, 8), np.uint8), (3, 0.75, 0.5)).grid
PICTURES = (b"axial bytes", b"coronal bytes")
EVIL = '<script>alert("1")</script>&amp;'


def make_case(number, *names, text="what was found"):
    """Make a case with all facts and the faults of these names."""
    return CheckedCase(
        f"case_{number:05d}",
        tuple(Finding(name, text) for name in names),
        GRID,
        ImageFacts((-1024.0, -1000.0, 250.0, 1500.0), "0f", PICTURES),
        LabelFacts(
            {"kidney": 310.25, "tumor": 31.44, "cyst": 0.0},
            {"tumor": [20.0, 9.0, 2.0, 0.44], "cyst": []},
        ),
        AnnotatorFacts(3, {"kidney": 0.97, "tumor": 0.912}),
    )


CASES = (
    make_case(7, "grid mismatch", "padded HU"),
    CheckedCase("case_00002", (Finding("unreadable file", EVIL),)),
    make_case(4, "padded HU"),
    make_case(1),
)
"""With an error and a warning, with nothing that can be read, with a warning, and clean."""
