"""A tiny run of the real commands: phantom cases, a small network, seconds an epoch."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

TINY = """
[data]
make_phantom = true
held_out = 1
workers = 2

[phantom]
cases = 3
matrix = 64

[preprocess]
spacing_mm = 6.0

[sampling]
patch_shape = [32, 32, 32]
batch_size = 2

[network]
features = 4
max_features = 16
deep_supervision = 2

[loss]
dice_per_batch = true

[optimizer]
learning_rate = 0.02
momentum = 0.9

[train]
epochs = 3
batches = 4
validation_batches = 2
threshold_baseline = true

[predict]
bucket = 16
"""


def environment():
    # The commands are to be seen as a user has them: one CPU device, not the tests' eight.
    return os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}


def command(name, *arguments):
    return [sys.executable, str(ROOT / "bin" / f"{name}.py"), *map(str, arguments)]


def run(name, *arguments, **options):
    return subprocess.run(
        command(name, *arguments),
        env=environment(), capture_output=True, text=True, timeout=600, **options,
    )  # fmt: skip
