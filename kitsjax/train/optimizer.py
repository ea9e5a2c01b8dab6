"""Nesterov SGD with polynomial decay (O1)."""

import optax

from kitsjax.settings import OptimizerSettings


def learning_rate(settings: OptimizerSettings, steps: int) -> optax.Schedule:
    """Linear warm-up, then lr (1 - step / steps) ** power, which reaches 0 at `steps`."""
    decay = optax.polynomial_schedule(
        settings.learning_rate, 0.0, settings.decay_power, max(steps - settings.warmup_steps, 1)
    )
    if not settings.warmup_steps:
        return decay
    # The first warm-up step already learns: its rate is one part of warmup_steps, not zero.
    first = settings.learning_rate / settings.warmup_steps
    warmup = optax.linear_schedule(first, settings.learning_rate, settings.warmup_steps - 1)
    return optax.join_schedules([warmup, decay], [settings.warmup_steps])


def build_optimizer(settings: OptimizerSettings, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, add coupled weight decay, momentum, scale: torch.optim.SGD's order.

    Args:
        steps: optimizer steps of the whole run, over which the learning rate falls to 0.
    """
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.add_decayed_weights(settings.weight_decay),
        optax.trace(settings.momentum, settings.nesterov),
        optax.scale_by_learning_rate(learning_rate(settings, steps)),
    )
