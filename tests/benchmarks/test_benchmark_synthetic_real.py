"""The table of real CTs: right on made-up ones, of which every voxel is known."""

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from benchmarks import synthetic_real
from benchmarks.real_cts import find_real_cts
from benchmarks.synthetic_real import draw_slices, main, make_table, score_real
from kitsjax.errors import InputError
from kitsjax.labels import KITS

SHAPE = (6, 8, 10)


def write(path, array):
    """Write an array (z, y, x) with voxels of 5 x 10 x 20 mm, of one milliliter."""
    path.parent.mkdir(exist_ok=True)
    affine = np.diag([-20.0, -10.0, -5.0, 1])
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), path)


@pytest.fixture
def real(tmp_path):
    """A CT with its kidneys, one without any in view, and files that are neither."""
    ct = np.full(SHAPE, -1000, np.int16)
    ct[:, 1:7, 1:9] = 40
    kidneys = np.zeros(SHAPE, np.uint8)
    kidneys[1:5, 2:4, 2:7] = 1
    write(tmp_path / "abdomens" / "a.nii.gz", ct)
    write(tmp_path / "abdomens" / "a_small.nii.gz", ct[:3])
    write(tmp_path / "abdomens" / "kidney_of_a.nii.gz", kidneys)
    write(tmp_path / "ct_without_kidneys" / "b_1.5mm.nii.gz", ct)
    write(tmp_path / "labels" / "c.nii.gz", kidneys)
    write(tmp_path / "unknown" / "d.nii.gz", ct)
    return tmp_path


def test_cts_are_found_with_what_is_known(real):
    known = {
        f"{ct.path.parent.name}/{ct.path.name}": None if ct.kidneys is None else ct.kidneys.sum()
        for ct in find_real_cts(real)
    }
    assert known == {
        "abdomens/a.nii.gz": 40,
        "abdomens/a_small.nii.gz": None,
        "ct_without_kidneys/b_1.5mm.nii.gz": 0,
        "unknown/d.nii.gz": None,
    }


def test_scores_are_as_worked_out(real):
    """Of 40 ml of kidney 20 are found as kidney and 10 as tumor, beside 4 of a cyst elsewhere."""
    with_kidneys, _, without, _ = find_real_cts(real)
    label = np.zeros(SHAPE, np.uint8)
    label[1:3, 2:4, 2:7], label[3:4, 2:4, 2:7], label[5, 6, 2:6] = 1, 2, 3
    found = score_real(with_kidneys, label, KITS, 1.5)
    assert found.kidneys == pytest.approx(2 * 20 / (20 + 40))
    assert found.whole == pytest.approx(2 * 30 / (34 + 40))
    assert 0 < found.surface < 1
    volumes = found.true_ml, found.found_ml, found.masses_ml
    assert volumes == pytest.approx((40, 34, 14))
    found = score_real(without, label, KITS, 1.5)
    assert np.isnan([found.kidneys, found.whole, found.surface]).all()
    assert (found.true_ml, found.found_ml, found.masses_ml) == pytest.approx((0, 34, 14))
    row = make_table([found], "t").rows[0]
    assert row == ("ct_without_kidneys/b_1.5mm.nii.gz", "–", "–", "–", "0.0", "34.0", "14.0", "1.5")


@pytest.mark.parametrize("anything", [True, False])
def test_figures_show_where_something_is(real, anything):
    first, *_ = find_real_cts(real)
    label = np.zeros(SHAPE, np.uint8)
    label[2, 2:5, 3:5] = anything
    ct = first if anything else first._replace(kidneys=np.zeros(SHAPE, bool))
    drawing = draw_slices(ct, label, KITS)
    titles = [axis.get_title() for axis in drawing.figure.axes if axis.get_title()]
    assert titles == [f"slice {z}" for z in (1, 2, 3, 4)]
    assert drawing.name == "a"


def test_the_command_prints_all_that_is_known(real, monkeypatch, capsys, tmp_path):
    models = [SimpleNamespace(scheme=KITS)]
    monkeypatch.setattr(synthetic_real, "load_ensemble", lambda *_: models)
    monkeypatch.setattr(synthetic_real, "start_devices", lambda *_: None)
    found = SimpleNamespace(array=np.zeros(SHAPE, np.uint8))
    monkeypatch.setattr(synthetic_real, "segment", lambda *_: found)
    figures = tmp_path / "figures"
    monkeypatch.setattr("sys.argv", ["", "--real", str(real), "--figures", str(figures)])
    main()
    printed = capsys.readouterr().out
    assert "abdomens/a.nii.gz | 0.000 | 0.000" in printed
    assert "b_1.5mm.nii.gz | – | –" in printed
    assert "a_small" not in printed
    assert "unknown" not in printed
    assert sorted(p.name for p in figures.glob("*.png")) == ["a.png", "b_1.5mm.png"]
    monkeypatch.setattr("sys.argv", ["", "--real", str(real / "labels")])
    with pytest.raises(InputError, match="no CT whose kidneys are known"):
        main()
