"""Scoring of two volumes or arrays: what is refused, and tilted grids."""

import numpy as np
import pytest

from kitsjax.evaluate.score_volumes import score
from kitsjax.image.header import kits_affine
from kitsjax.image.volume import Grid, Volume, make_volume

SPACING_MM = (3.0, 0.8, 0.8)


def label_map():
    label = np.zeros((10, 20, 20), np.uint8)
    label[2:8, 5:15, 5:15], label[3:5, 6:9, 6:9] = 1, 2
    return label


def test_a_tilted_grid_has_right_volumes_only(caplog):
    """Its voxels hold |det| mm³, 5 % less than the product of the edges; surfaces are left out."""
    affine = kits_affine(SPACING_MM)
    affine[2, 1] = 0.8 * np.tan(np.radians(18.5))
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    tilted = Volume(label_map(), Grid((10, 20, 20), tuple(map(float, edges)), affine))
    straight = score(label_map(), label_map(), SPACING_MM)
    found = score(tilted, tilted)
    for name, expected in straight.items():
        assert found[name].dice == 1
        assert found[name].truth_cm3 == pytest.approx(expected.truth_cm3, rel=1e-9)
        assert found[name].prediction_cm3 == pytest.approx(expected.prediction_cm3, rel=1e-9)
        assert np.isnan([found[name].surface_dice, found[name].hausdorff95_mm]).all()
    (record,) = caplog.records
    assert "18.5 degrees off perpendicular" in record.getMessage()


def test_straight_volumes_score_as_their_arrays(caplog):
    volume = make_volume(label_map(), SPACING_MM)
    assert score(volume, volume) == score(label_map(), label_map(), SPACING_MM)
    assert not caplog.records


@pytest.mark.parametrize("kind", [list, np.array])
def test_a_spacing_may_be_any_sequence(kind):
    expected = score(label_map(), label_map(), SPACING_MM)
    assert score(label_map(), label_map(), kind(SPACING_MM)) == expected


def test_wrong_arguments_are_explained(tmp_path):
    label = label_map()
    for wrong in ("a.nii.gz", tmp_path, [[[1]]], None):
        with pytest.raises(TypeError, match="score takes label maps as arrays or volumes, not"):
            score(label, wrong, SPACING_MM)
    for spacing in (3.0, "abc", (1, None, 1)):
        with pytest.raises(TypeError, match="a spacing is three positive lengths"):
            score(label, label, spacing)
    with pytest.raises(ValueError, match="above 1000 mm"):
        score(label, label, (1e30, 1, 1))
