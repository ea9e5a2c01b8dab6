"""What training starts from: the run's own checkpoint, a trained model, or random parameters."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kitsjax.config import choose_scheme
from kitsjax.errors import InputError
from kitsjax.infer.bundle import Bundle, read_bundle
from kitsjax.model.arrays import Params
from kitsjax.settings import Settings
from kitsjax.train.checkpoint import Checkpoints
from kitsjax.train.checkpoint_record import Progress
from kitsjax.train.program import Program, first_state
from kitsjax.train.state import TrainState

_SHAPING = (
    "network.features", "network.max_features", "network.smallest", "network.deep_supervision",
    "loss.regions", "sampling.patch_shape",
)  # fmt: skip
"""Settings that the shapes of the parameters depend on, beside the labels. The patch's shape may
differ where the number of stages does not."""


class Start(NamedTuple):
    """Where training starts.

    Attributes:
        state: parameters and the optimizer's state, without an axis of devices.
        progress: where the run stands.
        initial: checksum of the trained model whose parameters these are; empty for others.
    """

    state: TrainState
    progress: Progress
    initial: str


def choose_start(settings: Settings, program: Program, checkpoints: Checkpoints) -> Start:
    """Restore the latest checkpoint; without one, take the model `train.init_from`, if it is set.

    A run that has a checkpoint does not read the model again.

    Raises:
        InputError: all checkpoints are damaged, or one is of another network; or the model cannot
            be read, or is of other labels or another network.
    """
    state = first_state(settings, program)
    if found := checkpoints.restore_latest(state):
        return Start(*found, "")
    if not settings.train.init_from:
        return Start(state, Progress(), "")
    bundle = read_bundle(settings.train.init_from)
    _check_fit(settings, bundle, state.params)
    params = jax.tree.map(jnp.asarray, bundle.params)
    # A copy, since a step that may reuse the state's memory cannot get one array twice.
    average = None if state.average is None else jax.tree.map(jnp.copy, params)
    return Start(replace(state, params=params, average=average), Progress(), bundle.sha256)


def _check_fit(settings: Settings, bundle: Bundle, params: Params) -> None:
    """Refuse a model whose outputs mean something else, or whose parameters have other shapes."""
    where = f"train.init_from = {settings.train.init_from}"
    theirs, ours = (choose_scheme(s).names[1:] for s in (bundle.settings, settings))
    if theirs != ours:
        raise InputError(
            f"{where}: a model of the labels {', '.join(theirs)}, and this run's are "
            f"{', '.join(ours)}; give a model of the same labels"
        )
    same = jax.tree.map(jnp.shape, bundle.params) == jax.tree.map(jnp.shape, params)
    # Outputs by region have other meanings, and could have the same shapes.
    regions = bundle.settings.loss.regions == settings.loss.regions
    if same and regions:
        return
    for name in _SHAPING:
        old, new = (_read(s, name) for s in (bundle.settings, settings))
        if old != new:
            raise InputError(
                f"{where}: its {name} is {old}, and this run's is {new}; train with --set "
                f"{name}={old}, or give another model"
            )
    raise InputError(f"{where}: its parameters do not fit this run's network; give another model")


def _read(settings: Settings, name: str) -> str:
    """Return the value of a setting as `--set` takes it."""
    section, _, field = name.partition(".")
    value = getattr(getattr(settings, section), field)
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)).replace(" ", "") if isinstance(value, tuple) else str(value)
