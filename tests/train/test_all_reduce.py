"""What the devices of a run exchange in a step: the gradients, once, and next to nothing else."""

import jax
import pytest
from flax.traverse_util import flatten_dict

from benchmarks.communication import Collective, find_collectives
from kitsjax.config import load_settings
from kitsjax.train.program import build_program, lower_train_step
from kitsjax.train.state import init_state

OUTPUTS, FOREGROUND_CLASSES = 2, 3
UNDER_A_NORM = ("/first/bias", "/second/bias")


def compile_step(*overrides):
    """The compiled step on all devices as text, and the shapes of its parameters by name."""
    settings = load_settings(
        overrides=(
            "sampling.patch_shape=[8, 8, 8]", "sampling.batch_size=16", "network.features=4",
            "network.smallest=2", f"network.deep_supervision={OUTPUTS}", *overrides,
        )
    )  # fmt: skip
    program = build_program(settings)
    state = jax.eval_shape(lambda: init_state(program.network, program.optimizer, 0))
    lowered = lower_train_step(settings, program, state)
    # The last stage of compilation takes half the time and changes nothing about the exchange.
    compiled = lowered.compile({"xla_backend_optimization_level": 0})
    return compiled.as_text(), flatten_dict(state.params, sep="/")


def gradient_bytes(params):
    """The bytes of all gradients but those known to be zero: of biases that a norm takes away."""
    kept = [leaf for name, leaf in params.items() if not name.endswith(UNDER_A_NORM)]
    assert 0 < len(params) - len(kept) < len(params) / 4
    return sum(4 * leaf.size for leaf in kept)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_a_step_sends_gradients_and_loss_once(accumulation_steps):
    assert jax.device_count() >= 8
    text, params = compile_step(f"train.accumulation_steps={accumulation_steps}")
    loss_bytes = 4
    assert find_collectives(text) == [
        Collective("all-reduce", gradient_bytes(params) + loss_bytes, in_loop=False)
    ], "a step exchanges more, or oftener, than one fused all-reduce of the gradients"


@pytest.mark.slow
def test_a_dice_over_the_batch_adds_only_its_sums():
    text, params = compile_step("loss.dice_per_batch=true")
    *of_the_loss, of_the_gradients = find_collectives(text)
    assert of_the_gradients == Collective("all-reduce", gradient_bytes(params) + 4, in_loop=False)
    # At every output: the intersection and both sums of each class, and their gradients back.
    assert {c.kind for c in of_the_loss} == {"all-reduce"}
    assert sum(c.bytes for c in of_the_loss) == 2 * OUTPUTS * FOREGROUND_CLASSES * 3 * 4
