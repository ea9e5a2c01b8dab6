import jax
import numpy as np
import pytest

from benchmarks import step
from benchmarks.definition import Job
from benchmarks.nnunet_plans import FEATURES
from kitsjax.model.unet import build_network, stage_features
from kitsjax.train.augment import oversized_shape


def job(tmp_path, size="small", threads=2):
    return Job(tmp_path, size, "", threads)


@pytest.mark.parametrize("size", ["small", "full"])
def test_network_has_nnunets_parameters(tmp_path, size):
    settings = step.step_settings(job(tmp_path, size))
    network = build_network(settings.network, settings.sampling.patch_shape)
    image = jax.ShapeDtypeStruct((1, *settings.sampling.patch_shape, 1), np.float32)
    params = jax.eval_shape(network.lazy_init, jax.random.key(0), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 31_197_204


def test_small_patch_has_the_stages_of_a_full_one(tmp_path):
    def stages(size):
        settings = step.step_settings(job(tmp_path, size))
        shape, network = settings.sampling.patch_shape, settings.network
        return stage_features(shape, network.features, network.max_features, network.smallest)

    assert stages("small") == stages("full") == FEATURES


def test_nothing_is_augmented(tmp_path):
    settings = step.step_settings(job(tmp_path))
    patch_shape = settings.sampling.patch_shape
    assert oversized_shape(patch_shape, settings.augment) == patch_shape
    assert not any(
        getattr(settings.augment, name)
        for name in ("mirror", "rotate", "scale", "brightness", "contrast", "gamma")
    )


@pytest.mark.parametrize(("threads", "devices"), [(1, 1), (2, 2), (3, 2), (64, 2)])
def test_devices_divide_the_batch(tmp_path, threads, devices):
    assert step.step_settings(job(tmp_path, threads=threads)).run.cpu_devices == devices
