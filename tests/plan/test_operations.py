"""The arithmetic of a train step and of a batch of windows."""

from functools import partial

import jax
import pytest

from kitsjax.infer.trained_model import Ensemble, Model
from kitsjax.plan.operations import count_step_operations, count_window_operations
from kitsjax.settings import (
    AugmentSettings,
    NetworkSettings,
    PredictSettings,
    PreprocessSettings,
    SamplingSettings,
    Settings,
)
from kitsjax.train.program import build_program, first_state

NO_AUGMENTATION = AugmentSettings(mirror=0, rotate=0, scale=0, brightness=0, contrast=0, gamma=0)
TINY = Settings(
    sampling=SamplingSettings(patch_shape=(8, 8, 8), batch_size=8),
    network=NetworkSettings(features=4, deep_supervision=1),
    augment=NO_AUGMENTATION,
)


def test_a_step_of_the_paper_counts_eleven_tflop():
    """nnU-Net's network at 128 cubed, four patches."""
    network = NetworkSettings(max_features=320, deep_supervision=5)
    settings = Settings(network=network, augment=NO_AUGMENTATION)
    assert count_step_operations(settings, 4) == pytest.approx(11.1e12, rel=0.01)


def test_the_form_does_not_matter():
    counts = []
    for form in ("direct", "packed", "merged", "planar", "stacked"):
        network = TINY.network.model_copy(update={"convolution": form})
        counts.append(count_step_operations(TINY.model_copy(update={"network": network}), 2))
    assert len(set(counts)) == 1


def test_work_grows_with_patches_and_mirrorings():
    one, two = (count_step_operations(TINY, patches) for patches in (1, 2))
    # The update of the parameters does not grow with the batch.
    assert 1.5 * one < two < 2 * one
    state = jax.eval_shape(partial(first_state, TINY, program := build_program(TINY)))
    stacked = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), state.params)

    def count(mirror):
        predict = PredictSettings(mirror=mirror, batch_size=1)
        shape = TINY.sampling.patch_shape
        preprocess = PreprocessSettings()
        model = Model(state.params, program.network, shape, preprocess, predict)
        return count_window_operations(Ensemble(model, stacked, (preprocess,), (0,)))

    assert count(True) == pytest.approx(8 * count(False), rel=0.05)
    assert count(False) < one / 2
