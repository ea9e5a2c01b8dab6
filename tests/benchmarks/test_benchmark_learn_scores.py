import nibabel as nib
import numpy as np
import pytest

from benchmarks.learn_scores import compare, score_predictions
from kitsjax.errors import InputError
from kitsjax.labels import KITS

AFFINE = np.array([[0, 0, -1.0, 0], [0, -1.0, 0, 0], [-1.0, 0, 0, 0], [0, 0, 0, 1]])


def scores(*values):
    """Equal scores in every class and both measures: one for each case."""
    table = {f"case_{n:05d}": value for n, value in enumerate(values)}
    return {c: dict.fromkeys(KITS.evaluation_keys, table) for c in ("dice", "surface_dice")}


def test_difference_is_paired_by_case():
    """Cases differ by far more than contenders do; a paired interval is narrow all the same."""
    ours = [scores(0.2, 0.5, 0.9, 0.4), scores(0.2, 0.7, 0.9, 0.4)]
    theirs = [scores(0.1, 0.5, 0.8, 0.3), scores(0.1, 0.5, 0.8, 0.3)]
    found = compare(ours, theirs)["surface_dice"]["mass"]
    assert found.ours == pytest.approx([0.5, 0.55])
    assert found.theirs == pytest.approx([0.425, 0.425])
    assert found.our_mean.mean == pytest.approx(0.525)
    assert found.their_mean.mean == pytest.approx(0.425)
    # Every case is 0.1 better, the mean of its seeds.
    assert found.difference == pytest.approx((0.1, 0.1, 0.1))
    assert found.our_mean.high - found.our_mean.low > 0.2


def test_order_of_cases_does_not_matter():
    theirs = scores(0.1, 0.9)
    for tables in theirs.values():
        for name, table in tables.items():
            tables[name] = dict(reversed(table.items()))
    # The mean would be the same with any pairs, but not its interval.
    assert compare([scores(0.1, 0.9)], [theirs])["dice"]["tumor"].difference == (0, 0, 0)


def test_seeds_may_differ_in_number():
    found = compare([scores(0.5), scores(0.7)], [scores(0.5)])["dice"]["tumor"]
    assert (found.ours, found.theirs) == ([0.5, 0.7], [0.5])
    assert found.difference.mean == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [([scores(0.5)], [scores(0.5, 0.6)]), ([scores(0.5), scores(0.5, 0.6)], [scores(0.5)])],
)
def test_other_cases_are_not_compared(ours, theirs):
    with pytest.raises(ValueError, match="different cases"):
        compare(ours, theirs)


@pytest.fixture
def cases(tmp_path):
    """A data set of two cases, and an empty folder for masks."""
    (tmp_path / "masks").mkdir()
    label = np.zeros((6, 8, 8), np.uint8)
    label[1:5, 2:6, 2:6], label[2:4, 3:5, 3:5] = 1, 2
    for n in range(2):
        folder = tmp_path / "data" / f"case_{n:05d}"
        folder.mkdir(parents=True)
        nib.save(nib.Nifti1Image(label, AFFINE), folder / "aggregated_MAJ_seg.nii.gz")
        nib.save(nib.Nifti1Image(label.astype(np.int16), AFFINE), folder / "imaging.nii.gz")
    return tmp_path / "data"


def write_mask(cases, n, edit=None):
    label = nib.load(cases / f"case_{n:05d}" / "aggregated_MAJ_seg.nii.gz").get_fdata()
    label = label.astype(np.uint8)
    if edit is not None:
        label[label == 2] = edit
    nib.save(nib.Nifti1Image(label, AFFINE), cases.parent / "masks" / f"case_{n:05d}.nii.gz")


def test_masks_are_scored_case_by_case(cases):
    write_mask(cases, 0)
    write_mask(cases, 1, edit=1)
    found = score_predictions(cases, cases.parent / "masks")
    assert found["dice"]["tumor"] == {"case_00000": 1, "case_00001": 0}
    assert found["surface_dice"]["kidney_and_mass"] == {"case_00000": 1, "case_00001": 1}


def test_a_missing_mask_is_no_score(cases):
    write_mask(cases, 0)
    with pytest.raises(InputError, match="no mask of case_00001"):
        score_predictions(cases, cases.parent / "masks")
