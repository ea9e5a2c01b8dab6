import os
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import nnunet
from benchmarks.dummy_data import make_patches
from benchmarks.nnunet_plans import make_plans
from kitsjax.labels import KITS
from kitsjax.model.losses import deep_supervision_loss
from kitsjax.model.unet import UNet
from kitsjax.settings import LossSettings, OptimizerSettings
from kitsjax.train.optimizer import build_optimizer
from kitsjax.train.state import TrainState
from kitsjax.train.step import train_step

FEATURES = (4, 6, 8, 8)
SHAPE = (16, 16, 16)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for nnU-Net; the environment is restored after the test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    return tmp_path


@pytest.fixture
def trainer(folder):
    pytest.importorskip("nnunetv2", reason="a baseline of the benchmarks, pip install '.[bench]'")
    nnunet.use_folders(folder)
    return nnunet.build_trainer(make_plans(1.99, SHAPE, 2, FEATURES), "cpu")


def test_everything_is_written_under_the_folder(folder):
    nnunet.use_folders(folder)
    names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "TORCHINDUCTOR_CACHE_DIR")
    assert all(os.environ[name].startswith(f"{folder}/") for name in names)


def test_dataset_has_the_classes_and_the_cases():
    found = nnunet.make_dataset({"a": (Path("/i.nii.gz"), Path("/l.nii.gz"))})
    assert [found["labels"][name] for name in KITS.names] == [0, 1, 2, 3]
    assert found["dataset"] == {"a": {"images": ["/i.nii.gz"], "label": "/l.nii.gz"}}
    assert found["numTraining"] == 1


@pytest.mark.filterwarnings("ignore")  # the warnings of nnU-Net are not ours
def test_one_step_gives_the_same_parameters(trainer):
    """Network, deep supervision, both losses, clipping, weight decay and momentum agree."""
    # nnU-Net gives its coarsest output no weight: a network without it has the same loss.
    network = UNet(FEATURES, deep_supervision=2, classes=4)
    params = nnunet.convert_parameters(trainer.network)
    del params["head_2"]
    params = jax.tree.map(jnp.asarray, params)
    optimizer = build_optimizer(OptimizerSettings(learning_rate=0.01), steps=10**9)
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    image, label = make_patches(SHAPE, 2)
    loss = partial(deep_supervision_loss, settings=LossSettings())
    step = partial(train_step, network=network, optimizer=optimizer, loss=loss)
    state, metrics = jax.jit(step)(state, {"image": image, "label": label})

    trainer.network.train()
    found = trainer.train_step(nnunet.make_batch(trainer, image, label))

    assert float(metrics["loss"]) == pytest.approx(float(found["loss"]), abs=1e-5)
    theirs = nnunet.convert_parameters(trainer.network)
    del theirs["head_2"]
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, theirs)
    assert max(jax.tree.leaves(moved)) > 1e-3
    jax.tree.map(partial(np.testing.assert_allclose, atol=2e-5), state.params, theirs)
