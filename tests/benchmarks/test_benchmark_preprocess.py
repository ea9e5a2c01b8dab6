"""Preprocessing against its peer: the check sees other work, and a small folder passes it."""

import numpy as np
import pytest

from benchmarks import nnunet, preprocess
from benchmarks.part import Job


def test_images_that_differ_by_scale_and_clipping_alone_are_the_same_work():
    image = np.random.default_rng(0).normal(0, 100, (8, 9, 10))
    copy = np.clip(image, -150, 180) / 75 + 3

    assert preprocess.affine_differences(copy, image).max() < 1e-9

    other = copy.copy()
    other[4, 4, 4] = 3.4 if copy[4, 4, 4] < 3 else 2.6
    assert preprocess.affine_differences(other, image).max() > 20


def test_images_of_other_shapes_are_other_work():
    with pytest.raises(ValueError, match="same work"):
        preprocess.affine_differences(np.zeros((2, 3, 4)), np.zeros((2, 3, 5)))


def test_no_intensity_is_cut_off_by_the_peer():
    (found,) = preprocess._plans()["foreground_intensity_properties_per_channel"].values()

    assert (found["percentile_00_5"], found["percentile_99_5"]) == (-1024, 3071)
    assert found["mean"] == nnunet.INTENSITIES["mean"]
    assert nnunet.INTENSITIES["percentile_99_5"] < 3071


@pytest.mark.slow
def test_both_sides_make_the_same_cases(tmp_path, monkeypatch):
    pytest.importorskip("nnunetv2", reason="the peer, of the extra [bench]")
    monkeypatch.setattr(preprocess, "MATRIX", 64)
    monkeypatch.setitem(preprocess.CASES, "small", 2)
    job = Job(tmp_path, "small", "", 2)
    preprocess.PART.prepare(job)

    for side in preprocess.PART.sides:
        assert side.run(job).units == 2

    found = preprocess.PART.check(job)
    assert found["cases"] == 2
    assert found["share of label voxels as nnU-Net"] > 0.98
    assert found["largest difference of an image, HU"] < 1
