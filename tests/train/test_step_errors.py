import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from kitsjax.errors import InputError
from kitsjax.settings import NetworkSettings, SamplingSettings, Settings
from kitsjax.train import program, step_errors
from kitsjax.train.loop import TrainingLoop
from kitsjax.train.step_errors import describe_divergence, explain_memory

SETTINGS = Settings(
    sampling=SamplingSettings(patch_shape=(8, 8, 8), batch_size=8),
    network=NetworkSettings(features=2, deep_supervision=1),
)


def allocate_too_much(*_):
    # The error may come only when the array is used.
    return jax.block_until_ready(jnp.zeros(2**46, jnp.uint8))


@pytest.mark.parametrize("moment", ["step", "compile"])
def test_lack_of_memory_names_what_needs_less(tmp_path, monkeypatch, moment):
    """JAX's own error, in a step and in the compiler."""
    loop = TrainingLoop(SETTINGS, tmp_path, [], [])
    loop.program = replace(loop.program, train_step=allocate_too_much)
    monkeypatch.setattr(program, "lower_train_step", allocate_too_much)
    monkeypatch.setattr("kitsjax.train.streams.send", lambda arrays: arrays)
    batch = dict.fromkeys(("image", "label", "index", "case"))
    streams = iter([batch] * 2), iter([batch] * 2)
    with pytest.raises(InputError) as refused:
        loop.fit(lambda *_: streams) if moment == "step" else loop.compile()
    message = str(refused.value)
    for words in ("out of memory", "network.remat=true", "train.accumulation_steps", "--plan"):
        assert words in message
    assert "\n" not in message


def test_divergence_names_the_cases_of_all_hosts(monkeypatch):
    """A host has a share of the batch, and the loss is that of all."""
    checkpoints = SimpleNamespace(latest=4, folder="run/checkpoints")

    def exchange(name, value):
        return [value, json.dumps(["case_00007"])]

    monkeypatch.setattr(step_errors, "exchange", exchange)
    line = describe_divergence(9, float("nan"), 1.0, ["case_00001", "case_00002"], checkpoints)
    assert "batch of case_00001, case_00002, case_00007; last good" in line


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), explain_memory():
        1 / 0  # noqa: B018
