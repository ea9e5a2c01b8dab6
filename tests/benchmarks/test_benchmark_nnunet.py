"""nnU-Net as set up here is the same network, loss and optimizer as kitsjax: equal numbers."""

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import nnunet
from benchmarks.step import dummy_batch, nnunet_batch
from kitsjax.labels import CLASSES
from kitsjax.model.losses import deep_supervision_loss
from kitsjax.model.unet import UNet
from kitsjax.settings import LossSettings, OptimizerSettings
from kitsjax.train.optimizer import build_optimizer
from kitsjax.train.step import TrainState, train_step

FEATURES = (4, 6, 8, 8)
SHAPE = (16, 16, 16)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of nnU-Net's; its variables are taken back after the test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    return tmp_path


@pytest.fixture
def trainer(folder):
    pytest.importorskip("nnunetv2", reason="a peer of the benchmark, pip install '.[bench]'")
    nnunet.use_folders(folder)
    plans = nnunet.plans(1.99, SHAPE, 2, FEATURES)
    return nnunet.build_trainer(plans, nnunet.dataset_json(), "all", "cpu")


def test_everything_is_written_under_the_folder(folder):
    nnunet.use_folders(folder)
    names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "TORCHINDUCTOR_CACHE_DIR")
    assert all(os.environ[name].startswith(f"{folder}/") for name in names)


def test_plans_halve_at_every_stage_but_the_first():
    [configuration] = nnunet.plans(2.0, SHAPE, 3, FEATURES)["configurations"].values()
    network = configuration["architecture"]["arch_kwargs"]
    assert network["strides"] == [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert network["features_per_stage"] == list(FEATURES)
    assert configuration["spacing"] == [2.0, 2.0, 2.0]
    assert configuration["batch_size"] == 3


def test_dataset_has_the_classes_and_the_cases():
    from pathlib import Path

    found = nnunet.dataset_json({"a": (Path("/i.nii.gz"), Path("/l.nii.gz"))})
    assert [found["labels"][name] for name in CLASSES] == [0, 1, 2, 3]
    assert found["dataset"] == {"a": {"images": ["/i.nii.gz"], "label": "/l.nii.gz"}}
    assert found["numTraining"] == 1


def test_one_step_from_the_same_parameters_gives_the_same_parameters(trainer):
    """Network, deep supervision, Dice and cross-entropy, clipping, weight decay, momentum."""
    # nnU-Net gives its coarsest head no weight: a network without that head has the same loss.
    network = UNet(FEATURES, deep_supervision=2)
    params = nnunet.parameters_for_kitsjax(trainer.network)
    del params["head_2"]
    params = jax.tree.map(jnp.asarray, params)
    optimizer = build_optimizer(OptimizerSettings(learning_rate=0.01), steps=10**9)
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    image, label = dummy_batch(SHAPE, 2)
    loss = partial(deep_supervision_loss, settings=LossSettings())
    step = partial(train_step, network=network, optimizer=optimizer, loss=loss)
    state, metrics = jax.jit(step)(state, {"image": image, "label": label})

    trainer.network.train()
    told = trainer.train_step(nnunet_batch(trainer, image, label))

    assert float(metrics["loss"]) == pytest.approx(float(told["loss"]), abs=1e-5)
    theirs = nnunet.parameters_for_kitsjax(trainer.network)
    del theirs["head_2"]
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, theirs)
    assert max(jax.tree.leaves(moved)) > 1e-3
    jax.tree.map(partial(np.testing.assert_allclose, atol=2e-5), state.params, theirs)
