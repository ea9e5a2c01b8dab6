"""A training of seconds on made-up batches, in a process of its own that can be killed.

The process comes from a server that has imported everything, so that a trial costs no imports.
"""

import hashlib
import multiprocessing
import os
import sys
from itertools import count

import numpy as np

EPOCHS, BATCHES, VALIDATIONS = 3, 4, 2
STEPS = EPOCHS * BATCHES

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tiny_training_imports"])


def start(folder, cache):
    """Start or resume the training in a folder; return its process and a pipe of its messages.

    The messages are ("ready",) when everything is compiled, ("step", number) as a step is begun,
    and ("done", hash of the best parameters).
    """
    here, there = _context.Pipe(duplex=False)
    process = _context.Process(target=_train, args=(str(folder), cache, there))
    process.start()
    there.close()
    return process, here


def _train(folder, cache, pipe):
    # Before JAX looks for its devices: two, where the tests have eight.
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    import jax
    from tiny_training_imports import Path, Stopped, TrainingLoop

    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    loop = TrainingLoop(make_settings(), Path(folder), [], [])
    try:
        best, _ = loop.fit(lambda settings, *_: open_streams(loop, pipe))
    except Stopped as stopped:
        sys.exit(stopped.status)
    digest = hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(best)))
    pipe.send(("done", digest.hexdigest()))


def make_settings():
    from kitsjax.settings import (
        AugmentSettings,
        NetworkSettings,
        SamplingSettings,
        Settings,
        TrainSettings,
    )

    return Settings(
        sampling=SamplingSettings(patch_shape=(8, 8, 8), batch_size=2),
        network=NetworkSettings(features=2, deep_supervision=1, convolution="direct"),
        augment=AugmentSettings(rotate=0.0, scale=0.0),
        # Nearly every step begins a checkpoint, so that most kills fall into a save.
        train=TrainSettings(
            epochs=EPOCHS, batches=BATCHES, validation_batches=VALIDATIONS, checkpoint_minutes=1e-9
        ),
    )


def open_streams(loop, pipe):
    from kitsjax.train.augment import oversized_shape

    sampling, progress = loop.settings.sampling, loop.progress
    oversized = oversized_shape(sampling.patch_shape, loop.settings.augment)
    pipe.send(("ready",))

    def read(name, start, shape):
        for number in count(start):
            pipe.send((name, number))
            rng = np.random.default_rng(number)
            yield {
                "image": rng.normal(size=(2, *shape)).astype(np.float16),
                "label": rng.integers(0, 4, (2, *shape)).astype(np.uint8),
                "index": np.arange(2, dtype=np.int32) + 2 * number,
                "case": np.zeros(2, np.int32),
            }

    return (
        read("train", progress.step, oversized),
        read("validation", progress.epoch * VALIDATIONS, sampling.patch_shape),
    )
