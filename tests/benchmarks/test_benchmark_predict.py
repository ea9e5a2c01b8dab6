import numpy as np
import pytest

from benchmarks import predict, predict_task
from benchmarks.definition import Job
from benchmarks.predict import compare_masks
from benchmarks.predict_task import MIRRORED, PLAIN, Task, read_task
from kitsjax.image.read_nifti import read_label

TINY = Task(spacing_mm=16.0, patch_edge=8, features=2, max_features=8)
SHAPE = (36, 64, 64)


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(
        predict_task, "_TASKS", {("small", variant): TINY for variant in (PLAIN, MIRRORED)}
    )
    monkeypatch.setattr(predict, "CT_SHAPE", SHAPE)
    monkeypatch.setattr(predict, "CT_SPACING_MM", (5.0, 6.0, 6.0))
    return Job(tmp_path, "small", MIRRORED, 1)


def test_masks_compare():
    ours, theirs = np.array([0, 1, 2, 3]), np.array([0, 1, 3, 0])
    assert compare_masks(ours, theirs) == (0.5, pytest.approx(2 * 2 / 5))
    assert compare_masks(ours, ours) == (1.0, 1.0)
    assert compare_masks(np.zeros(4), np.zeros(4)) == (1.0, 1.0)
    assert compare_masks(ours, np.zeros(4)) == (0.25, 0.0)


@pytest.mark.slow
def test_kitsjax_predicts_without_the_baselines(job, monkeypatch):
    monkeypatch.setattr(predict, "is_installed", lambda module: False)
    # JAX has begun here, with the devices of the tests.
    monkeypatch.setattr("kitsjax.infer.predict_files.best_cpu_devices", lambda: 1)
    predict._prepare(job)
    assert read_task(job).stage_features == (2, 4)
    found = predict._run_kitsjax(job)
    assert len(found.seconds) == 1
    assert 0 < found.seconds[0] < found.values["first call, s"]
    assert read_label(job.folder / "kitsjax" / "mirrored.nii.gz").array.shape == SHAPE


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the warnings of nnU-Net are not ours
def test_both_networks_have_the_same_parameters(job):
    pytest.importorskip("nnunetv2", reason="the baseline comes with the [bench] extra")
    predict._prepare(job)
    assert predict._logits_difference(job) < 1e-4
