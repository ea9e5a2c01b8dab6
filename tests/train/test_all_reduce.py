"""The communication of a step: each gradient once, and next to nothing else."""

import jax
import pytest
from flax.traverse_util import flatten_dict

from benchmarks.communication import Collective, find_collectives
from kitsjax.config import load_settings
from kitsjax.train.program import build_program, lower_train_step
from kitsjax.train.step import init_state

OUTPUTS, FOREGROUND_CLASSES = 2, 3
UNDER_A_NORM = ("/first/bias", "/second/bias")


def compile_step(*overrides):
    """Compile a step for all devices; return its optimized HLO and the shapes of the parameters."""
    settings = load_settings(
        overrides=(
            "sampling.patch_shape=[16, 16, 16]", "sampling.batch_size=16", "network.features=2",
            f"network.deep_supervision={OUTPUTS}", *overrides,
        )
    )  # fmt: skip
    program = build_program(settings)
    state = jax.eval_shape(lambda: init_state(program.network, program.optimizer, 0))
    compiled = lower_train_step(settings, program, state).compile()
    return compiled.as_text(), flatten_dict(state.params, sep="/")


def gradient_bytes(params):
    """Count the bytes of all gradients but those of biases under a norm, which are zero."""
    kept = [leaf for name, leaf in params.items() if not name.endswith(UNDER_A_NORM)]
    assert 0 < len(params) - len(kept) < len(params) / 4
    return sum(4 * leaf.size for leaf in kept)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_step_sends_each_gradient_once_and_loss(accumulation_steps):
    assert jax.device_count() >= 8
    text, params = compile_step(f"train.accumulation_steps={accumulation_steps}")
    loss_bytes = 4
    assert find_collectives(text) == [
        Collective("all-reduce", gradient_bytes(params) + loss_bytes, in_loop=False)
    ], "a step exchanges more, or oftener, than one fused all-reduce of the gradients"


@pytest.mark.slow
def test_dice_over_batch_adds_only_its_sums():
    text, params = compile_step("loss.dice_per_batch=true")
    *of_the_loss, of_the_gradients = find_collectives(text)
    assert of_the_gradients == Collective("all-reduce", gradient_bytes(params) + 4, in_loop=False)
    # Intersection and both sums of each class, there and, as gradients, back, at every output.
    assert {c.kind for c in of_the_loss} == {"all-reduce"}
    assert sum(c.bytes for c in of_the_loss) == 2 * OUTPUTS * FOREGROUND_CLASSES * 3 * 4
