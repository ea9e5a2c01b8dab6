"""The run: every side effect of training, from parameters to the best checkpoint."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kitsjax.data.pipeline import Batch, batches
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.errors import InputError
from kitsjax.labels import CLASSES, FOREGROUND
from kitsjax.model.pseudo_dice import pseudo_dice
from kitsjax.settings import Settings
from kitsjax.train.augment import oversized_shape
from kitsjax.train.checkpoint import Checkpoints, Progress
from kitsjax.train.optimizer import learning_rate
from kitsjax.train.program import Program, build_program, lower_train_step
from kitsjax.train.signals import Stopped, watch_signals
from kitsjax.train.step import Metrics, Params, TrainState, init_state, replicate, shard
from kitsjax.train.tracking import Row, Tracker

Cases = Sequence[PreprocessedCase]
Streams = tuple[Iterator[Batch], Iterator[Batch]]
OpenStreams = Callable[[Settings, Cases, Cases, Progress], Streams]


def fit(
    settings: Settings,
    folder: Path,
    train_cases: Cases,
    validation_cases: Cases,
    open_streams: OpenStreams | None = None,
    describe_plan: Callable[..., str] | None = None,
) -> Params:
    """Train, or go on training, until all epochs are done; returns the best parameters.

    A run folder that holds checkpoints is resumed from the latest one, exactly: the parameters,
    the optimizer's memory, the position of both pipelines and every later draw are those of an
    unbroken run.

    Args:
        open_streams: opens the streams of training and validation batches at a run's progress, for
            batches that come from elsewhere; None: the pipeline's.

    Raises:
        InputError: the batch does not fit the devices, a checkpoint is damaged or of another
            network, the disk is full, or the loss is no longer finite.
        Stopped: SIGTERM or SIGINT came.
    """
    train = settings.train
    program = build_program(settings)
    state = init_state(program.network, program.optimizer, train.seed)
    params_like, progress = state.params, Progress()
    checkpoints = Checkpoints(folder / "checkpoints")
    if checkpoints.latest is not None:
        params, opt_state, progress = checkpoints.restore(
            state.params, state.opt_state, checkpoints.latest
        )
        state = TrainState(jnp.int32(progress.step), params, opt_state)
    if progress.epoch < train.epochs:
        lead = jax.process_index() == 0
        if lead and describe_plan is not None:
            # A single process cannot lower what all processes are to run together.
            alone = jax.process_count() == 1
            compiled = lower_train_step(settings, program, state).compile() if alone else None
            cases = len(train_cases), len(validation_cases)
            print(
                describe_plan(settings, state.params, compiled, folder, cases, progress.step),
                flush=True,
            )
        with (
            Tracker(
                folder, progress.step, progress.epoch, _steps(settings), active=lead
            ) as tracker,
            watch_signals() as signals,
        ):
            run = _Run(settings, program, checkpoints, tracker, signals, progress)
            streams = (open_streams or _streams)(settings, train_cases, validation_cases, progress)
            run.fit(replicate(state), streams, train_cases)
    best = checkpoints.best
    assert best is not None
    params = checkpoints.restore_params(params_like, best)
    checkpoints.close()
    return params


@dataclass
class _Run:
    """The epochs of a run on this host."""

    settings: Settings
    program: Program
    checkpoints: Checkpoints
    tracker: Tracker
    signals: list[int]
    progress: Progress

    def fit(self, state: TrainState, streams: Streams, train_cases: Cases) -> None:
        """Train and validate epoch by epoch, keeping checkpoints."""
        train, progress = self.settings.train, self.progress
        schedule = learning_rate(self.settings.optimizer, _steps(self.settings))
        train_stream, eval_stream = streams
        while progress.epoch < train.epochs:
            began = time.perf_counter()
            first = progress.step
            state, waited = self.train_epoch(state, train_stream, train_cases, schedule)
            seconds = time.perf_counter() - began
            row = self.validate(state.params, eval_stream)
            progress.epoch += 1
            before = (
                row["pseudo_dice"]
                if progress.pseudo_dice_average is None
                else progress.pseudo_dice_average
            )
            progress.pseudo_dice_average = (
                train.dice_decay * before + (1 - train.dice_decay) * row["pseudo_dice"]
            )
            patches = (progress.step - first) * self.settings.sampling.batch_size
            self.tracker.epoch({
                "epoch": progress.epoch,
                "step": progress.step,
                "train_loss": float(np.mean(progress.losses)),
                "pseudo_dice_average": progress.pseudo_dice_average,
                "learning_rate": float(schedule(progress.step)),
                "grad_norm": float(np.mean(progress.grad_norms)),
                "patches_per_second": patches / seconds,
                "data_wait": waited / seconds,
                "seconds": time.perf_counter() - began,
                **row,
            })  # fmt: skip
            progress.losses, progress.grad_norms = [], []
            last = progress.epoch == train.epochs
            if last or progress.epoch % train.checkpoint_epochs == 0:
                self.save(state, scored=True)
        self.checkpoints.wait()

    def train_epoch(
        self,
        state: TrainState,
        stream: Iterator[Batch],
        cases: Cases,
        schedule: optax.Schedule,
    ) -> tuple[TrainState, float]:
        """The steps that the epoch still lacks; also the seconds spent waiting for batches.

        Metrics are read one step late, so that the accelerator never waits for Python.
        """
        progress, waited = self.progress, 0.0
        pending: tuple[int, Batch, Metrics] | None = None

        def record(step: int, batch: Batch, metrics: Metrics) -> None:
            loss, norm = (float(metrics[name][0]) for name in ("loss", "grad_norm"))
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise InputError(self._diverged(step, loss, norm, batch, cases))
            progress.losses.append(loss)
            progress.grad_norms.append(norm)
            rate = float(schedule(step - 1))
            self.tracker.step(
                {"step": step, "loss": loss, "grad_norm": norm, "learning_rate": rate}
            )

        end = (progress.epoch + 1) * self.settings.train.batches
        while progress.step < end and not self.signals:
            asked = time.perf_counter()
            batch = next(stream)
            waited += time.perf_counter() - asked
            arrays = {name: batch[name] for name in ("image", "label", "index")}
            state, metrics = self.program.train_step(state, shard(arrays, jax.local_device_count()))
            if pending is not None:
                record(*pending)
            progress.step += 1
            pending = progress.step, batch, metrics
        if pending is not None:
            record(*pending)
        self._leave_if_asked(state)
        return state, waited

    def validate(self, params: Params, stream: Iterator[Batch]) -> Row:
        """Loss and pseudo-Dice over an epoch's validation patches (V2)."""
        losses, counts = [], np.zeros((len(CLASSES), 3))
        for _ in range(self.settings.train.validation_batches):
            batch = next(stream)
            arrays = {name: batch[name] for name in ("image", "label")}
            metrics = self.program.eval_step(params, shard(arrays, jax.local_device_count()))
            losses.append(float(metrics["loss"][0]))
            counts += np.asarray(metrics["counts"][0], np.float64)
        by_class = {
            f"pseudo_dice_{CLASSES[c]}": float(2 * hit / max(2 * hit + wrong + missed, 1))
            for c, (hit, wrong, missed) in enumerate(counts)
            if c in FOREGROUND
        }
        dice = float(pseudo_dice(jnp.asarray(counts, jnp.float32)))
        return {"validation_loss": float(np.mean(losses)), "pseudo_dice": dice, **by_class}

    def save(self, state: TrainState, *, scored: bool) -> None:
        """Keep a checkpoint; every logged row that it counts on is on the disk before it."""
        self.tracker.flush()
        one = jax.tree.map(_first_replica, state)
        self.checkpoints.save(one.params, one.opt_state, self.progress, scored=scored)

    def _leave_if_asked(self, state: TrainState) -> None:
        if self.signals:
            # At an epoch's very start the last epoch's checkpoint may be of this same step.
            if self.checkpoints.latest != self.progress.step:
                self.save(state, scored=False)
            self.checkpoints.wait()
            raise Stopped(self.signals[0], self.progress.step)

    def _diverged(self, step: int, loss: float, norm: float, batch: Batch, cases: Cases) -> str:
        self.checkpoints.wait()
        names = ", ".join(cases[i].case_id for i in batch["case"])
        latest = self.checkpoints.latest
        good = "none yet" if latest is None else f"{self.checkpoints.folder}/{latest}"
        return (
            f"the loss is {loss} and the gradient's norm {norm} at step {step}, batch of {names}; "
            f"last good checkpoint: {good}; check these cases or lower optimizer.learning_rate"
        )


def _steps(settings: Settings) -> int:
    return settings.train.epochs * settings.train.batches


def _streams(
    settings: Settings, train_cases: Cases, validation_cases: Cases, progress: Progress
) -> Streams:
    train, sampling = settings.train, settings.sampling
    source = oversized_shape(sampling.patch_shape, settings.augment)
    host, hosts = jax.process_index(), jax.process_count()
    training = batches(
        train_cases, sampling, source,
        seed=train.seed, start=progress.step, host=host, hosts=hosts,
        label_source=settings.data.label_source,
    )  # fmt: skip
    # On the majority label, so that runs on other sources compare.
    validation = batches(
        validation_cases, sampling, sampling.patch_shape,
        # Another stream of draws than the training's, even over the same cases.
        seed=train.seed + 1, start=progress.epoch * train.validation_batches,
        host=host, hosts=hosts,
    )  # fmt: skip
    return training, validation


def _first_replica(array: jax.Array) -> np.ndarray:
    """This host's first copy of an array that pmap replicated, without touching the others."""
    return np.asarray(array.addressable_shards[0].data).reshape(array.shape[1:])
