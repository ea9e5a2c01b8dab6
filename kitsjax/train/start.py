"""What training starts from: the run's own checkpoint, a trained model, or random parameters."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kitsjax.settings import Settings
from kitsjax.train.checkpoint import Checkpoints
from kitsjax.train.checkpoint_record import Progress
from kitsjax.train.initial_model import check_labels, read_initial
from kitsjax.train.program import Program, first_state
from kitsjax.train.state import TrainState


class Start(NamedTuple):
    """Where training starts.

    Attributes:
        state: parameters and the optimizer's state, without an axis of devices.
        progress: where the run stands.
        initial: checksum of the trained model whose parameters these are; empty for others.
        resumed: whether all this comes from a checkpoint of the run.
    """

    state: TrainState
    progress: Progress
    initial: str
    resumed: bool


def choose_start(settings: Settings, program: Program, checkpoints: Checkpoints) -> Start:
    """Restore the latest checkpoint; without one, take the model `train.init_from`, if it is set.

    A run that has a checkpoint does not read the model again.

    Raises:
        InputError: all checkpoints are damaged, or one is of another network; or the model cannot
            be read, or is of other labels or another network.
    """
    state = first_state(settings, program)
    if found := checkpoints.restore_latest(state):
        return Start(*found, "", True)
    if not settings.train.init_from:
        return Start(state, Progress(), "", False)
    bundle = read_initial(settings)
    check_labels(settings, bundle)
    params = jax.tree.map(jnp.asarray, bundle.params)
    # A copy, since a step that may reuse the state's memory cannot get one array twice.
    average = None if state.average is None else jax.tree.map(jnp.copy, params)
    state = replace(state, params=params, average=average)
    return Start(state, Progress(), bundle.sha256, False)
