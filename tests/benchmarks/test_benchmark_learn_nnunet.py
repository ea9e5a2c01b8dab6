import json
import math
import os

import jax
import nibabel as nib
import numpy as np
import pytest

from benchmarks import learn_nnunet_process as process
from benchmarks.learn_contenders import count_parameters
from benchmarks.nnunet_plans import CONFIGURATION, DATASET, PLANS
from kitsjax.config import load_settings, to_toml
from kitsjax.data.split import Split, write_split
from kitsjax.model.unet import build_network
from kitsjax.settings import Settings

AFFINE = np.array([[0, 0, -2.0, 0], [0, -2.0, 0, 0], [-2.0, 0, 0, 0], [0, 0, 0, 1]])
TINY = (
    "preprocess.spacing_mm=2.0", "sampling.patch_shape=[16, 16, 16]", "sampling.batch_size=2",
    "network.features=4", "network.deep_supervision=2", "data.held_out=1",
)  # fmt: skip


def test_plans_are_those_of_the_settings():
    intensities = {"mean": 1.0, "std": 2.0, "percentile_00_5": -3.0, "percentile_99_5": 4.0}
    settings = load_settings(overrides=["network.max_features=64", "network.features=8"])
    plans = process.make_task_plans(settings, intensities)
    configuration = plans["configurations"][CONFIGURATION]
    assert configuration["patch_size"] == [128, 128, 128]
    assert configuration["batch_size"] == 4
    assert configuration["spacing"] == [1.99] * 3
    features = configuration["architecture"]["arch_kwargs"]["features_per_stage"]
    assert features == [8, 16, 32, 64, 64, 64]
    assert plans["foreground_intensity_properties_per_channel"] == {"0": intensities}
    # nnU-Net's own default, where kitsjax would resample all axes together.
    assert configuration["resampling_fn_data_kwargs"]["force_separate_z"] is None
    assert configuration["batch_dice"] is False
    whole = load_settings(overrides=["loss.dice_per_batch=true"])
    plans = process.make_task_plans(whole, intensities)
    assert plans["configurations"][CONFIGURATION]["batch_dice"] is True


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Settings of three tiny cases; the foreground has 100 HU, the held-out one's 1000."""
    pytest.importorskip("nnunetv2", reason="a baseline of the benchmarks, pip install '.[bench]'")
    # nnU-Net's folders stand in the environment, which is restored after the test.
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    names = [f"case_{n:05d}" for n in range(3)]
    for n, name in enumerate(names):
        label = np.zeros((18, 20, 22), np.uint8)
        label[4:14, 4:14, 4:14], label[5:8, 5:8, 5:8], label[9:12, 9:12, 9:12] = 1, 2, 3
        image = np.random.default_rng(n).integers(-900, -800, label.shape).astype(np.int16)
        image[label > 0] = 1000 if n == 2 else 100
        (tmp_path / "data" / name).mkdir(parents=True)
        for stem, array in (("imaging", image), ("aggregated_MAJ_seg", label)):
            nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "data" / name / f"{stem}.nii.gz")
    write_split(tmp_path / "split.json", Split(tuple(names[:2]), (names[2],)))
    own = (f"data.root={tmp_path / 'data'}", f"data.split={tmp_path / 'split.json'}")
    settings = load_settings(overrides=[*TINY, *own])
    (tmp_path / "settings.toml").write_text(to_toml(settings))
    return settings


def count_ours(settings: Settings) -> int:
    network = build_network(settings.network, settings.sampling.patch_shape, "cpu")
    patch = np.zeros((1, *settings.sampling.patch_shape, 1), np.float32)
    tree = jax.eval_shape(network.init, jax.random.key(0), patch)["params"]
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return count_parameters({jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the warnings of nnU-Net are not ours
def test_nnunet_prepares_trains_and_predicts(data, tmp_path):
    folder, results = str(tmp_path / "nnunet"), str(tmp_path / "results")
    process.prepare(folder, str(tmp_path / "settings.toml"))
    base = tmp_path / "nnunet" / "preprocessed" / DATASET
    plans = json.loads((base / f"{PLANS}.json").read_text())
    # Only the training cases tell the intensities.
    assert plans["foreground_intensity_properties_per_channel"]["0"]["max"] == 100
    assert json.loads((base / "splits_final.json").read_text())[0]["val"] == ["case_00002"]

    changes = {
        "num_epochs": 2, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1,
        "initial_lr": 0.25,
    }  # fmt: skip
    found = process.train(folder, results, 0, changes)
    assert found["parameters"] == count_ours(data)
    assert 0 < found["epoch_seconds"] < math.inf
    log = next(process.model_folder(tmp_path / "results").glob("fold_0/training_log*")).read_text()
    assert "2 training and 1 validation cases" in log
    assert "Current learning rate: 0.25" in log

    mask = tmp_path / "masks" / "case_00002.nii.gz"
    ct = tmp_path / "data" / "case_00002" / "imaging.nii.gz"
    process.predict(folder, results, [(str(ct), str(mask))])
    predicted = nib.load(mask)
    assert predicted.shape == (18, 20, 22)
    np.testing.assert_allclose(predicted.affine, AFFINE, atol=1e-5)
    assert set(np.unique(predicted.get_fdata())) <= {0, 1, 2, 3}
