"""The statistics that compare the wide phantom with real CTs: right on images of known HU."""

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest

from benchmarks.real_cts import find_real_cts
from benchmarks.synthetic_statistics import SHARES, main, measure, read_slices


@pytest.fixture
def known():
    """Half air, then fat at -100, muscle at 50, a kidney at 150 and a tumor at 80, noise of 6."""
    rng = np.random.default_rng(0)
    image, label = np.full((4, 64, 64), -1000.0), np.zeros((4, 64, 64), int)
    image[:, 32:] = -100
    image[:, 48:] = 50
    for value, hu, at in ((1, 150, 4), (2, 80, 40)):
        box = slice(None), slice(50, 62), slice(at, at + 12)
        image[box], label[box] = hu, value
    return image + rng.normal(0, 6, image.shape), label


def test_tissues_are_measured_inside(known):
    found = measure(*known)
    assert found.kidney == pytest.approx(150, abs=1)
    assert found.tumor == pytest.approx(80, abs=1)
    assert found.kidney_spread == pytest.approx(6, rel=0.1)
    assert found.fat == pytest.approx(-100, abs=2)
    assert found.soft == pytest.approx(50, abs=2)
    assert 4 < found.noise < 7
    assert found.shares[0] == pytest.approx(0.5)
    assert sum(found.shares[1:]) == pytest.approx(1)


def test_absent_tissues_are_nan(known):
    image, label = known
    found = measure(image, np.zeros_like(label))
    assert np.isnan([found.kidney, found.tumor, found.tumor_spread]).all()
    nothing = measure(np.full_like(image, -1000.0), np.zeros_like(label))
    assert np.isnan([nothing.fat, nothing.soft, nothing.noise]).all()
    assert nothing.shares == (1, *(0,) * (len(SHARES) - 1))


def test_real_files_are_read(tmp_path):
    """Slices have their classes by color, a CT its kidneys from the mask beside it."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    gray, colors = np.zeros((8, 8), np.float32), np.zeros((8, 8, 3), np.float32)
    gray[2], colors[2, :, 2], colors[5, :, 0] = 100 / 255, 1, 1
    matplotlib.image.imsave(tmp_path / "images" / "a.png", gray, cmap="gray", vmin=0, vmax=1)
    matplotlib.image.imsave(tmp_path / "masks" / "a.png", colors)
    ((image, label),) = read_slices(tmp_path)
    assert image[0, 2] == pytest.approx(100, abs=1)
    assert (label[0, 2] == 1).all()
    assert (label[0, 5] == 2).all()
    ct = np.full((4, 4, 4), -1000, np.int16)
    nib.save(nib.Nifti1Image(ct, np.eye(4)), tmp_path / "ct.nii.gz")
    mask = (np.arange(64).reshape(4, 4, 4) < 9).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "kidney.nii.gz")
    (found,) = find_real_cts(tmp_path)
    assert found.path.name == "ct.nii.gz"
    assert found.kidneys.sum() == 9


@pytest.mark.parametrize("cases", [3, 8])
def test_the_table_has_the_phases_that_there_are(cases, monkeypatch, capsys):
    """The first three cases show no kidney."""
    monkeypatch.setattr("sys.argv", ["", "--cases", str(cases), "--matrix", "48"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert {line.count("|") for line in lines} == {10}
    rows = [line.split("|")[1].strip() for line in lines[2:]]
    assert rows == [] if cases == 3 else "phantom, portal" in rows
