"""Errors of the train step, as one line that says what to do."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import jax

from kitsjax.errors import InputError, first_line
from kitsjax.hosts import exchange
from kitsjax.model.compiling import is_out_of_memory
from kitsjax.train.checkpoint import Checkpoints


def describe_divergence(
    step: int, loss: float, norm: float, case_ids: Sequence[str], checkpoints: Checkpoints
) -> str:
    """Describe a loss, or a norm of the gradient, that is not finite.

    All hosts call it, since all see the same numbers at the same step.

    Args:
        step: number of the step, from 1.
        loss: the step's loss.
        norm: its gradient's norm.
        case_ids: the cases of this host's share of its batch.
        checkpoints: the run's, of which none is being written.
    """
    latest = checkpoints.latest
    parts = exchange("naming the cases of the batch", json.dumps(list(case_ids)))
    names = [name for part in parts for name in json.loads(part)]
    good = "none yet" if latest is None else f"{checkpoints.folder}/{latest}"
    return (
        f"the loss is {loss} and the gradient's norm {norm} at step {step}, batch of "
        f"{', '.join(names)}; last good checkpoint: {good}; check these cases or lower "
        "optimizer.learning_rate"
    )


@contextmanager
def explain_memory() -> Iterator[None]:
    """Turn a device's lack of memory into one line that names the settings that need less.

    Raises:
        InputError: the device, or its compiler, lacks memory.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"the device is out of memory ({first_line(error)}); set network.remat=true, a higher "
            "train.accumulation_steps, or a smaller sampling.batch_size, sampling.patch_shape or "
            "network.max_features; --plan says what fits"
        ) from None
