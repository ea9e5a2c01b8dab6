"""Resampling against its peers: the check tells a real difference from the peers' clipping."""

import numpy as np
import pytest

from benchmarks import resample
from benchmarks.part import Job


def test_differences_count_but_for_what_the_peer_cut_off():
    image = np.array([-1000.0, 1000.0])
    ours, peer = np.array([-1020.0, 10.0, 1300.0]), np.array([-1000.0, 12.5, 1000.0])

    assert resample.largest_difference(ours, peer, image) == 2.5


@pytest.mark.parametrize("variant", resample.PART.variants)
def test_every_side_gives_the_same_result(variant, tmp_path, monkeypatch):
    pytest.importorskip("nnunetv2", reason="a peer, of the extra [bench]")
    pytest.importorskip("skimage", reason="a peer, of the extra [bench]")
    monkeypatch.setattr(resample, "SHAPE", (20, 48, 40))
    job = Job(tmp_path, "small", variant, 1)
    resample.PART.prepare(job)

    for side in resample.PART.sides:
        measurement = side.run(job)
        assert min(measurement.seconds) > 0
        assert measurement.peak_bytes is not None

    for name, found in resample.PART.check(job).items():
        if variant == "image":
            assert found < 1e-3, name
        else:
            assert 0.98 < found <= 1, name


def test_labels_of_other_voxels_are_seen(tmp_path):
    ours = np.zeros((4, 4, 4), np.uint8)
    peer = ours.copy()
    peer[0] = 1
    for side, array in (("kitsjax", ours), ("nnunet", peer), ("skimage", ours)):
        np.save(tmp_path / f"labels-{side}.npy", array)

    found = resample.PART.check(Job(tmp_path, "small", "labels", 1))
    assert found == {
        "share of voxels as nnU-Net": 0.75,
        "share of voxels as scikit-image": 1.0,
    }
