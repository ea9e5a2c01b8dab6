import numpy as np
import pytest

from benchmarks import resample
from benchmarks.definition import Job


def test_values_beyond_the_image_do_not_count():
    image = np.array([-1000.0, 1000.0])
    ours, theirs = np.array([-1020.0, 10.0, 1300.0]), np.array([-1000.0, 12.5, 1000.0])

    assert resample.largest_difference(ours, theirs, image) == 2.5


@pytest.mark.filterwarnings("ignore")  # the warnings of baselines are not ours
@pytest.mark.parametrize("variant", resample.BENCHMARK.variants)
def test_every_contender_gives_the_same_result(variant, tmp_path, monkeypatch):
    pytest.importorskip("nnunetv2", reason="a baseline, of the extra [bench]")
    pytest.importorskip("skimage", reason="a baseline, of the extra [bench]")
    monkeypatch.setattr(resample, "SHAPE", (20, 48, 40))
    job = Job(tmp_path, "small", variant, 1)
    resample.BENCHMARK.prepare(job)

    for contender in resample.BENCHMARK.contenders:
        measurement = contender.run(job)
        assert min(measurement.seconds) > 0
        assert measurement.peak_bytes is not None

    for name, found in resample.BENCHMARK.check(job).items():
        if variant == "image":
            assert found < 1e-3, name
        else:
            assert 0.98 < found <= 1, name


def test_other_labels_are_counted(tmp_path):
    ours = np.zeros((4, 4, 4), np.uint8)
    theirs = ours.copy()
    theirs[0] = 1
    for name, array in (("kitsjax", ours), ("nnunet", theirs), ("skimage", ours)):
        np.save(tmp_path / f"labels-{name}.npy", array)

    found = resample.BENCHMARK.check(Job(tmp_path, "small", "labels", 1))
    assert found == {
        "share of voxels as nnU-Net": 0.75,
        "share of voxels as scikit-image": 1.0,
    }
