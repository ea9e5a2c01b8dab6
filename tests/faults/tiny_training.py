"""A training of seconds on made-up batches, in a process of its own that can be killed.

The process comes from a server that has imported everything, so that a trial costs no imports.
"""

import hashlib
import multiprocessing
import os
import sys
from itertools import count

import numpy as np
from two_hosts import free_address

EPOCHS, BATCHES, VALIDATIONS = 3, 4, 2
STEPS = EPOCHS * BATCHES

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tiny_training_imports"])


def start(folder, cache, processes=1):
    """Start or resume the training in a folder; return its processes, each with its messages.

    The training has two devices, all of one process or one of each of two. The messages come
    through a pipe: ("ready",) when everything is compiled, ("train", number) and ("validation",
    number) as a batch is read, and ("done", hash of the best parameters).
    """
    address = free_address() if processes > 1 else ""
    started = []
    for index in range(processes):
        here, there = _context.Pipe(duplex=False)
        run = {"coordinator": address, "processes": processes, "process": index}
        process = _context.Process(target=_train, args=(str(folder), cache, run, there))
        process.start()
        there.close()
        started.append((process, here))
    return started


def _train(folder, cache, run, pipe):
    from tiny_training_imports import exit_with, ignore_signals, run_command

    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    status = run_command(lambda: _train_together(folder, cache, run, pipe))
    # A command does so at its exit, of which a process of `multiprocessing` knows nothing.
    ignore_signals()
    exit_with(status)


def _train_together(folder, cache, run, pipe):
    """Do what `kitsjax.train.run` does around its training, in the same order."""
    # Two devices together, where the tests have eight.
    os.environ["XLA_FLAGS"] = ""
    import jax
    from tiny_training_imports import (
        Path,
        RunSettings,
        TrainingLoop,
        connect_devices,
        host_watch,
        start_devices,
    )  # fmt: skip

    # A host that was killed is missed sooner than in a real run, but not one on a busy machine.
    host_watch.LOST_SECONDS = 10.0
    devices = 2 // run["processes"]
    start_devices(RunSettings(compilation_cache=cache, cpu_devices=devices, **run))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

    def work(_):
        connect_devices()
        loop = TrainingLoop(make_settings(), Path(folder), [], [])
        best = loop.fit(lambda settings, *_: open_streams(loop, pipe))
        # The first process alone has them.
        leaves = jax.tree.leaves(best[0] if best else ())
        digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves))
        pipe.send(("done", digest.hexdigest()))

    host_watch.end_together(work)
    return 0


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

    import jax

    # A host's share of the two patches: both, or one.
    own = slice(jax.process_index(), None, jax.process_count())

    def read(name, start, shape):
        for number in count(start):
            pipe.send((name, number))
            rng = np.random.default_rng(number)
            batch = {
                "image": rng.normal(size=(2, *shape)).astype(np.float16),
                "label": rng.integers(0, 4, (2, *shape)).astype(np.uint8),
                "index": np.arange(2, dtype=np.int32) + 2 * number,
                "case": np.zeros(2, np.int32),
            }
            yield {name: array[own] for name, array in batch.items()}

    return (
        read("train", progress.step, oversized),
        read("validation", progress.epoch * VALIDATIONS, sampling.patch_shape),
    )
