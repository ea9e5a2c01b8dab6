"""The arithmetic of a train step and of a batch of windows, counted before any optimization.

XLA's own implementation of the convolution is counted, since others need fewer operations or hide
some in loops. Nothing is compiled, and the programs are lowered for a CPU, so that it works for
devices that are not here.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any, cast

import jax

from kitsjax.infer.trained_model import Ensemble
from kitsjax.infer.window_program import lower_windows
from kitsjax.model.unet import UNet
from kitsjax.settings import Settings
from kitsjax.train.program import build_program, first_state, lower_train_step


def count_step_operations(settings: Settings, patches: int) -> float:
    """Count the operations of a train step on so many patches.

    Args:
        settings: all settings of the run.
        patches: a device's share of the batch, in all of its micro-batches.
    """
    iterations = settings.train.accumulation_steps
    network = settings.network.model_copy(update={"convolution": "direct"})
    sampling = settings.sampling.model_copy(update={"batch_size": patches})
    direct = settings.model_copy(update={"network": network, "sampling": sampling})
    device = jax.local_devices(backend="cpu")[:1]
    program = build_program(direct, device)
    state = jax.eval_shape(partial(first_state, direct, program))
    return iterations * _flops(lower_train_step(direct, program, state, device))


def count_window_operations(ensemble: Ensemble) -> float:
    """Count the operations of one batch of windows, by the settings of the (first) model."""
    model = ensemble.model
    network = cast(UNet, model.network).copy(implementation="direct")
    lowered = lower_windows(
        ensemble._replace(model=replace(model, network=network)),
        model.predict,
        jax.local_devices(backend="cpu")[0],
    )
    return (8 if model.predict.mirror else 1) * _flops(lowered)


def _flops(lowered: Any) -> float:
    return float((lowered.cost_analysis() or {}).get("flops", math.nan))
