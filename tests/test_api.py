"""The names that `import kitsjax` offers."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kitsjax
from kitsjax import labels
from kitsjax.errors import InputError

ROOT = Path(__file__).parents[1]


def test_importing_loads_nothing_but_itself():
    code = "import sys, kitsjax; sys.exit(bool({'jax', 'numpy', 'nibabel'} & {*sys.modules}))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_is_there_and_documented():
    assert set(kitsjax.__all__) == set(kitsjax._MODULES)
    assert set(kitsjax.__all__) <= set(dir(kitsjax))
    for name in kitsjax.__all__:
        assert getattr(kitsjax, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'segmnt'"):
        _ = kitsjax.segmnt


def test_the_readme_uses_names_that_exist():
    used = set(re.findall(r"\bkj\.(\w+)", (ROOT / "README.md").read_text()))
    assert used
    assert used <= set(kitsjax.__all__)


def test_score_takes_arrays_and_volumes():
    label = np.zeros((9, 10, 11), np.uint8)
    label[2:7, 2:7, 2:7] = labels.KIDNEY
    label[4:6, 4:6, 4:6] = labels.TUMOR
    moved = np.roll(label, 1, 2)
    found = kitsjax.score(moved, label, (3, 1, 1))
    assert set(found) == set(labels.EVALUATION_CLASSES)
    # Of five columns of voxels four are shared, of two of the tumor one.
    assert found["kidney_and_mass"].dice == pytest.approx(4 / 5)
    assert found["tumor"].dice == pytest.approx(1 / 2)
    assert found["tumor"].truth_cm3 == pytest.approx(8 * 3 / 1000)
    volumes = [kitsjax.make_volume(array, (3, 1, 1)) for array in (moved, label)]
    assert kitsjax.score(*volumes) == found
    with pytest.raises(InputError, match="spacing"):
        kitsjax.score(volumes[0], kitsjax.make_volume(label, (3, 1, 2)))
    with pytest.raises(ValueError, match="spacing_mm of arrays"):
        kitsjax.score(moved, label)
    with pytest.raises(ValueError, match="one shape"):
        kitsjax.score(moved[1:], label, (3, 1, 1))
