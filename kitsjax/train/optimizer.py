"""The paper's optimizer: Nesterov SGD with a polynomially decaying learning rate."""

import optax

from kitsjax.settings import OptimizerSettings


def learning_rate(settings: OptimizerSettings, steps: int) -> optax.Schedule:
    """Build the schedule: a linear warm-up, then lr (1 - step / steps) ** power.

    Both step and steps are counted from the end of the warm-up. A run that is no longer than its
    warm-up ends within it.

    Args:
        settings: section [optimizer] of the settings.
        steps: optimizer steps of the whole run; the learning rate reaches 0 after the last.
    """
    decay = optax.polynomial_schedule(
        settings.learning_rate, 0.0, settings.decay_power, max(steps - settings.warmup_steps, 1)
    )
    if not settings.warmup_steps:
        return decay
    # The first step of a warm-up already learns: its rate is lr / warmup_steps, not 0.
    first = settings.learning_rate / settings.warmup_steps
    warmup = optax.linear_schedule(first, settings.learning_rate, settings.warmup_steps - 1)
    return optax.join_schedules([warmup, decay], [settings.warmup_steps])


def learning_rate_at(settings: OptimizerSettings, steps: int, step: int) -> float:
    """Compute the rate of `learning_rate` at a step in Python, for the log.

    The schedule itself would compute on the device, behind the step that is running there.

    Args:
        settings: section [optimizer] of the settings.
        steps: optimizer steps of the whole run.
        step: steps done before.
    """
    highest, warmup = settings.learning_rate, settings.warmup_steps
    if step < warmup:
        first = highest / warmup
        return first + (highest - first) * step / max(warmup - 1, 1)
    done = min((step - warmup) / max(steps - warmup, 1), 1.0)
    return float(highest * (1 - done) ** settings.decay_power)


def build_optimizer(settings: OptimizerSettings, steps: int) -> optax.GradientTransformation:
    """Build the optimizer, in the order of torch.optim.SGD.

    It clips the gradients by their global norm, adds coupled weight decay, applies momentum and
    scales by the learning rate.

    Args:
        settings: section [optimizer] of the settings.
        steps: optimizer steps of the whole run, over which the learning rate falls to 0.
    """
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.add_decayed_weights(settings.weight_decay),
        optax.trace(settings.momentum, settings.nesterov),
        optax.scale_by_learning_rate(learning_rate(settings, steps)),
    )
