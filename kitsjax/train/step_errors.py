"""Errors of the train step, as one line that says what to do."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager

from kitsjax.hosts import exchange
from kitsjax.model.compiling import explain_lack
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


def explain_memory() -> AbstractContextManager[None]:
    """Name the settings of training that need less where a device lacks memory."""
    return explain_lack(
        "network.remat=true, a higher train.accumulation_steps, or a smaller sampling.batch_size, "
        "sampling.patch_shape or network.max_features; --plan says what fits"
    )
