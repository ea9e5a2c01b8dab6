"""The HU threshold beside a run's scores, where a file has gone bad since training."""

import numpy as np
import pytest

from kitsjax.data.kits import find_cases
from kitsjax.image.header import kits_header
from kitsjax.image.write_nifti import write_label, write_volume
from kitsjax.labels import KITS
from kitsjax.train import summary

SHAPE = (4, 8, 8)


@pytest.fixture
def cases(tmp_path):
    """Four cases whose kidney is at 200 HU."""
    header = kits_header(SHAPE, (3.0, 1.0, 1.0))
    label = np.zeros(SHAPE, np.uint8)
    label[1:3, 2:5, 2:5] = 1
    for number in range(4):
        folder = tmp_path / "data" / f"case_{number:05d}"
        folder.mkdir(parents=True)
        write_volume(folder / "imaging.nii.gz", 200 * label.astype(np.float32), header)
        write_label(folder / "aggregated_MAJ_seg.nii.gz", label, header)
    return find_cases(tmp_path / "data")


def test_cases_that_cannot_be_read_are_left_out(cases, tmp_path, monkeypatch, caplog):
    """A bad file is told in a note, an unforeseen error with its log, and the means remain."""
    read = summary.read_volume

    def failing(path):
        if "case_00002" in str(path):
            raise KeyError("no such unit")
        return read(path)

    monkeypatch.setattr("kitsjax.train.summary.read_volume", failing)
    cases[0].image.write_bytes(b"damaged")
    means = summary._threshold_means(cases[:2], cases[2:], tmp_path, KITS)
    assert means["kidney_and_mass"] == {"dice": 1.0, "surface_dice": 1.0}
    bad, unforeseen = caplog.messages
    assert bad.startswith(f"{cases[0].image}: ")
    assert unforeseen.startswith(f"{cases[2].image}: KeyError: 'no such unit'; the full traceback")
    assert all(line.endswith("; the HU threshold is without it") for line in caplog.messages)
    assert "in failing" in (tmp_path / "errors.log").read_text()
    assert summary._threshold_means(cases[:2], cases[2:3], tmp_path, KITS) == {}
