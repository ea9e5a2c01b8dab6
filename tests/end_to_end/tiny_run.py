"""A tiny run of the real commands: phantom cases, a small network, a second an epoch.

Learning is fast on purpose. The masks of a network that has learned nothing are noise, and scoring
their surfaces takes longer than the whole training.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

EPOCHS, BATCHES = 4, 3

TINY = f"""
[data]
root = "ROOT/data/phantom"
make_phantom = true
held_out = 1
workers = 2

[phantom]
cases = 3
matrix = 64

[preprocess]
spacing_mm = 6.0
normalize = "foreground"

[sampling]
patch_shape = [16, 16, 16]
batch_size = 4
foreground_fraction = 1.0

[network]
features = 4
max_features = 16
deep_supervision = 2

[loss]
dice_per_batch = true

[optimizer]
learning_rate = 0.3
momentum = 0.9

[train]
epochs = {EPOCHS}
batches = {BATCHES}
validation_batches = 2
threshold_baseline = true

[predict]
bucket = 16

[run]
cpu_devices = 2
folder = "ROOT/run"
compilation_cache = "CACHE"
"""


def write_tiny_settings(folder):
    text = TINY.replace("ROOT", str(folder)).replace("CACHE", compilation_cache())
    (folder / "tiny.toml").write_text(text, encoding="utf-8")


def compilation_cache():
    # The tests' own, where the default would be the user's.
    return os.environ.get("JAX_COMPILATION_CACHE_DIR", "")


def environment():
    # The commands are tested as a user runs them: with one CPU device, not the tests' eight.
    return os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}


def command(name, *arguments):
    return [sys.executable, str(ROOT / "bin" / f"{name}.py"), *map(str, arguments)]


def run(name, *arguments):
    """Run a command in a process of its own."""
    return subprocess.run(
        command(name, *arguments), env=environment(), capture_output=True, text=True, timeout=600
    )


def predict(*arguments):
    """Run bin/predict.py in a process of its own."""
    return run("predict", *arguments, "--set", f"run.compilation_cache={compilation_cache()}")
