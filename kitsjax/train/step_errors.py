"""Errors of the train step, as one line that says what to do."""

from collections.abc import Sequence

from kitsjax.train.checkpoint import Checkpoints


def describe_divergence(
    step: int, loss: float, norm: float, case_ids: Sequence[str], checkpoints: Checkpoints
) -> str:
    """Describe a loss, or a norm of the gradient, that is not finite.

    Args:
        step: number of the step, from 1.
        loss: the step's loss.
        norm: its gradient's norm.
        case_ids: the cases of its batch.
        checkpoints: the run's, of which none is being written.
    """
    latest = checkpoints.latest
    good = "none yet" if latest is None else f"{checkpoints.folder}/{latest}"
    return (
        f"the loss is {loss} and the gradient's norm {norm} at step {step}, batch of "
        f"{', '.join(case_ids)}; last good checkpoint: {good}; check these cases or lower "
        "optimizer.learning_rate"
    )
