"""Finding the CTs that a path names, and their masks."""

import pytest

from kitsjax.errors import InputError
from kitsjax.infer.find_inputs import find_inputs


def test_find_inputs_lists_cts_and_their_masks(tmp_path):
    for name in ("kits/case_00001", "kits/case_00000", "flat"):
        (tmp_path / name).mkdir(parents=True)
    cts = [tmp_path / f"kits/case_0000{n}/imaging.nii.gz" for n in (0, 1)]
    flat = [tmp_path / "flat" / name for name in ("a.nii", "b.nii.gz")]
    mask = tmp_path / "kits/case_00000/aggregated_MAJ_seg.nii.gz"
    for path in [*cts, *flat, mask, tmp_path / "flat/._b.nii.gz", tmp_path / "flat/x.txt"]:
        path.touch()
    out = tmp_path / "out"
    masks = [out / f"case_0000{n}.nii.gz" for n in (0, 1)]
    assert find_inputs(tmp_path / "kits", out) == list(zip(cts, masks, strict=True))
    assert find_inputs(cts[0].parent, out) == [(cts[0], masks[0])]
    assert find_inputs(cts[1], out) == [(cts[1], masks[1])]
    link = tmp_path / "links/case_00009/imaging.nii.gz"
    link.parent.mkdir(parents=True)
    link.symlink_to(cts[0])
    assert find_inputs(link, out) == [(link, out / "case_00009.nii.gz")]
    assert find_inputs(flat[0], out) == [(flat[0], out / "a.nii.gz")]
    assert find_inputs(tmp_path / "flat", out) == [
        (flat[0], out / "a.nii.gz"),
        (flat[1], out / "b.nii.gz"),
    ]


def test_find_inputs_refuses_clashes(tmp_path):
    """It refuses paths without a CT, two CTs with one mask, and masks that would replace a CT."""
    with pytest.raises(InputError, match="no CT there"):
        find_inputs(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no CT there"):
        find_inputs(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(InputError, match="would replace an input"):
        find_inputs(tmp_path / "a.nii.gz", tmp_path)
    (tmp_path / "a.nii").touch()
    with pytest.raises(InputError, match="would both be written"):
        find_inputs(tmp_path, tmp_path / "out")
