import numpy as np
import pytest

from benchmarks import preprocess
from benchmarks.definition import Job
from benchmarks.nnunet_plans import INTENSITIES


def test_scale_and_clipping_are_no_difference():
    image = np.random.default_rng(0).normal(0, 100, (8, 9, 10))
    copy = np.clip(image, -150, 180) / 75 + 3

    assert preprocess.affine_differences(copy, image).max() < 1e-9

    other = copy.copy()
    other[4, 4, 4] = 3.4 if copy[4, 4, 4] < 3 else 2.6
    assert preprocess.affine_differences(other, image).max() > 20


def test_images_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="same work"):
        preprocess.affine_differences(np.zeros((2, 3, 4)), np.zeros((2, 3, 5)))


def test_the_baseline_clips_no_intensity():
    plans = preprocess.make_unclipped_plans()
    (found,) = plans["foreground_intensity_properties_per_channel"].values()

    assert (found["percentile_00_5"], found["percentile_99_5"]) == (-1024, 3071)
    assert found["mean"] == INTENSITIES["mean"]
    assert INTENSITIES["percentile_99_5"] < 3071


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the warnings of nnU-Net are not ours
def test_both_contenders_make_the_same_cases(tmp_path, monkeypatch):
    pytest.importorskip("nnunetv2", reason="the baseline, of the extra [bench]")
    monkeypatch.setattr(preprocess, "MATRIX", 64)
    monkeypatch.setitem(preprocess.CASES, "small", 2)
    job = Job(tmp_path, "small", "", 2)
    preprocess.BENCHMARK.prepare(job)

    for contender in preprocess.BENCHMARK.contenders:
        assert contender.run(job).units == 2

    found = preprocess.BENCHMARK.check(job)
    assert found["cases"] == 2
    assert found["share of label voxels as nnU-Net"] > 0.98
    assert found["largest difference of an image, HU"] < 1
