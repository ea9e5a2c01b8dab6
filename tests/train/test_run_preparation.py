"""A run before its first step: all cases that cannot be used are named at once."""

import numpy as np
import pytest

from kitsjax.config import load_settings
from kitsjax.errors import InputError
from kitsjax.image.header import kits_header
from kitsjax.image.write_nifti import write_volume
from kitsjax.train.preparation import prepare_together


def test_all_bad_cases_are_named_before_training(tmp_path, capsys):
    """Of four cases two cannot be used: one label is damaged, one lies elsewhere."""
    header, shape = kits_header((8, 16, 16), (4.0, 2.0, 2.0)), (8, 16, 16)
    moved = kits_header((8, 16, 16), (4.0, 2.0, 2.1))
    for number in range(4):
        folder = tmp_path / "data" / f"case_0000{number}"
        write_volume(folder / "imaging.nii.gz", np.zeros(shape, np.float32), header)
        label = folder / "segmentation.nii.gz"
        write_volume(label, np.zeros(shape, np.uint8), moved if number == 3 else header)
        if number == 1:
            label.write_bytes(label.read_bytes()[:-9])
    settings = load_settings(overrides=[f"data.root={tmp_path / 'data'}", "data.workers=1"])
    with pytest.raises(InputError, match="2 of 4 cases cannot be used, as listed above"):
        prepare_together(settings)
    first, second = capsys.readouterr().err.strip().splitlines()[-2:]
    assert "case_00001/segmentation.nii.gz: damaged or cut short" in first
    assert "case_00003/segmentation.nii.gz: voxels lie up to" in second
