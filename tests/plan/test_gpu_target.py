"""Programs for GPUs that are not here, as XLA's compiler makes them.

Each is compiled in a process of its own, since that can use no other device afterwards.
"""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from kitsjax.plan.chips import GIB

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("jax_cuda13_plugin") is None, reason="needs XLA's compiler for GPUs: jax[cuda13]"
    ),
]

COMPILE = """
import json, re, sys
from functools import partial
import jax
from kitsjax.config import load_settings
from kitsjax.model.compiling import compile_program
from kitsjax.plan.program_bytes import count_convolutions, count_program_bytes
from kitsjax.plan.targets import target_devices
from kitsjax.train.program import build_program, first_state, lower_train_step

target, batch = sys.argv[1], sys.argv[2]
devices = target_devices(target)
settings = load_settings("configs/kits21.toml", [f"sampling.batch_size={batch}"])
program = build_program(settings, devices)
state = jax.eval_shape(partial(first_state, settings, program))
lowered = lower_train_step(settings, program, state, devices)
compiled = compile_program(lowered, devices[0].platform)
text = compiled.as_text()
print(json.dumps({
    "devices": len(devices),
    "convolutions": count_convolutions(text),
    "reduces": len(re.findall(r" all-reduce(?:-start)?\\(", text)),
    "bytes": count_program_bytes(text),
    "temporary": compiled.memory_analysis().temp_size_in_bytes,
}))
"""


def compile_for(target, batch):
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, target, str(batch)], capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_step_on_an_h100_is_channels_last():
    """All convolutions of the step have their channels last; bytes and memory are as documented."""
    found = compile_for("h100", 4)
    # 65 of the network, six more at each of two merged decoder levels.
    assert found["convolutions"] == {"b012f_o012i->b012f": 77}
    assert found["reduces"] == 0
    assert found["bytes"] < 55 * GIB
    assert found["temporary"] < 7 * GIB


def test_eight_devices_reduce_the_gradient_once():
    """XLA splits the one reduction, and those of loss and norm, into five; not one a parameter."""
    found = compile_for("h100x8", 8)
    assert found["devices"] == 8
    # With a patch a device, two decoder levels are merged.
    assert sum(found["convolutions"].values()) == 77
    assert 1 <= found["reduces"] <= 6
