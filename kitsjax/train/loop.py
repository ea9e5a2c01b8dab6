"""The training loop: epochs of steps and validation, with their log and checkpoints."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from kitsjax.data.pipeline import Batch
from kitsjax.errors import InputError
from kitsjax.hosts import is_main
from kitsjax.labels import CLASSES, FOREGROUND
from kitsjax.model.arrays import Params
from kitsjax.model.pseudo_dice import pseudo_dice
from kitsjax.settings import Settings
from kitsjax.signals import Stopped, watch_signals
from kitsjax.train.checkpoint import Checkpoints
from kitsjax.train.checkpoint_record import Progress
from kitsjax.train.optimizer import learning_rate
from kitsjax.train.program import build_program, first_state, lower_train_step
from kitsjax.train.replication import first_replica, replicate, shard
from kitsjax.train.run_folder import CHECKPOINTS
from kitsjax.train.state import TrainState
from kitsjax.train.step import Metrics
from kitsjax.train.stop_vote import StopVote
from kitsjax.train.streams import Cases, OpenStreams, Streams, open_pipelines
from kitsjax.train.tracking import Tracker
from kitsjax.training_log import Row


class TrainingLoop:
    """The training of a run on this host, up to its last epoch.

    If the run folder holds checkpoints, training resumes from the latest one, exactly: the
    parameters, the optimizer's state, the position of both pipelines and all later random numbers
    are those of an unbroken run.

    Attributes:
        program: network, optimizer and compiled steps.
        state: the state that training starts from, without the leading axis of devices.
        progress: where the run stands.

    Raises:
        InputError: the batch does not fit the devices, all checkpoints are damaged, or one is of
            another network.
    """

    def __init__(
        self, settings: Settings, folder: Path, train_cases: Cases, validation_cases: Cases
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.train_cases = train_cases
        self.validation_cases = validation_cases
        self.program = build_program(settings)
        self.state = first_state(settings, self.program)
        self.progress = Progress()
        self._steps = settings.train.epochs * settings.train.batches
        self._learning_rate = learning_rate(settings.optimizer, self._steps)
        self._checkpoints = Checkpoints(folder / CHECKPOINTS)
        if found := self._checkpoints.restore_latest(self.state):
            self.state, self.progress = found

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.progress.epoch >= self.settings.train.epochs

    def compile(self) -> jax.stages.Compiled:
        """Compile the train step, which training then uses, and return it for analysis."""
        compiled = lower_train_step(self.settings, self.program, self.state).compile()
        self.program = replace(self.program, train_step=compiled)
        return compiled

    def fit(
        self, open_streams: OpenStreams | None = None, stepped: Callable[[], None] = lambda: None
    ) -> tuple[Params, Progress]:
        """Train until all epochs are done.

        Args:
            open_streams: opens the streams of batches, if they come from elsewhere than the cases.
            stepped: is called after every step.

        Returns:
            The best parameters (of `TrainState.kept`), and where the run stood when they were
            saved.

        Raises:
            InputError: a checkpoint is damaged, the disk is full, or the loss is no longer finite.
            Stopped: SIGTERM or SIGINT came to one of the hosts. A checkpoint of all that is done
                was saved.
        """
        if not self.finished:
            progress = self.progress
            tracker = Tracker(
                self.folder, progress.step, progress.epoch, self._steps, active=is_main()
            )
            with tracker, watch_signals() as seen:
                self._vote, self._stepped = StopVote(seen), stepped
                streams = (open_streams or open_pipelines)(
                    self.settings, self.train_cases, self.validation_cases, progress
                )
                self._run_epochs(streams, tracker, self._vote.signals)
        best = self._checkpoints.restore_best(self.state.params)
        self._checkpoints.close()
        return best

    def _run_epochs(self, streams: Streams, tracker: Tracker, signals: list[int]) -> None:
        """Train, validate, log and save, epoch by epoch."""
        train, progress = self.settings.train, self.progress
        train_stream, validation_stream = streams
        state = replicate(self.state)
        for epoch in range(progress.epoch, train.epochs):
            began = time.perf_counter()
            state, speed = self._train_epoch(state, train_stream, tracker, signals)
            scores = self._validate(state.kept, validation_stream, signals)
            if signals:
                # A validation that was broken off is made again as a whole.
                self._save_and_stop(state, tracker, signals[0])
            progress.epoch = epoch + 1
            progress.pseudo_dice_average = self._average(scores["pseudo_dice"])
            tracker.epoch({
                "epoch": progress.epoch,
                "step": progress.step,
                "train_loss": float(np.mean(progress.losses)),
                "pseudo_dice_average": progress.pseudo_dice_average,
                "learning_rate": float(self._learning_rate(progress.step)),
                "grad_norm": float(np.mean(progress.grad_norms)),
                **speed,
                "seconds": time.perf_counter() - began,
                **scores,
            })  # fmt: skip
            progress.losses, progress.grad_norms = [], []
            if self.finished or progress.epoch % train.checkpoint_epochs == 0:
                self._save(state, tracker, scored=True)
        self._checkpoints.wait()
        # One that came after the last vote is this host's alone; the others end with it.
        if signals := self._vote.seen:
            raise Stopped(signals[0], "all epochs are done; --resume predicts and scores")

    def _train_epoch(
        self, state: TrainState, stream: Iterator[Batch], tracker: Tracker, signals: list[int]
    ) -> tuple[TrainState, Row]:
        """Take the steps that the epoch still lacks, or stop early at a signal.

        Returns:
            The new state, and the log's numbers about speed.
        """
        progress, waited = self.progress, 0.0
        first, began = progress.step, time.perf_counter()
        end = (progress.epoch + 1) * self.settings.train.batches
        # Metrics are read one step late, so that the accelerator never waits for Python.
        pending: tuple[int, Batch, Metrics] | None = None
        while progress.step < end and not signals:
            wait_start = time.perf_counter()
            batch = next(stream)
            waited += time.perf_counter() - wait_start
            arrays = {name: batch[name] for name in ("image", "label", "index")}
            state, metrics = self.program.train_step(state, shard(arrays, jax.local_device_count()))
            self._vote.cast()
            self._stepped()
            if pending is not None:
                self._record_step(tracker, *pending)
            progress.step += 1
            pending = progress.step, batch, metrics
        if pending is not None:
            self._record_step(tracker, *pending)
        seconds = time.perf_counter() - began
        patches = (progress.step - first) * self.settings.sampling.batch_size
        return state, {"patches_per_second": patches / seconds, "data_wait": waited / seconds}

    def _record_step(self, tracker: Tracker, step: int, batch: Batch, metrics: Metrics) -> None:
        loss, norm = (float(metrics[name][0]) for name in ("loss", "grad_norm"))
        if not math.isfinite(loss) or not math.isfinite(norm):
            # The message names the last good checkpoint, which may still be being written.
            self._checkpoints.wait()
            raise InputError(self._describe_divergence(step, loss, norm, batch))
        self.progress.losses.append(loss)
        self.progress.grad_norms.append(norm)
        rate = float(self._learning_rate(step - 1))
        tracker.step({"step": step, "loss": loss, "grad_norm": norm, "learning_rate": rate})

    def _describe_divergence(self, step: int, loss: float, norm: float, batch: Batch) -> str:
        names = ", ".join(self.train_cases[i].case_id for i in batch["case"])
        latest = self._checkpoints.latest
        good = "none yet" if latest is None else f"{self._checkpoints.folder}/{latest}"
        return (
            f"the loss is {loss} and the gradient's norm {norm} at step {step}, batch of {names}; "
            f"last good checkpoint: {good}; check these cases or lower optimizer.learning_rate"
        )

    def _validate(self, params: Params, stream: Iterator[Batch], signals: list[int]) -> Row:
        """Compute the loss and the pseudo-Dice over an epoch's validation patches.

        At a signal it breaks off and returns nothing.
        """
        losses, counts = [], np.zeros((len(CLASSES), 3))
        for _ in range(self.settings.train.validation_batches):
            if signals:
                return {}
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

    def _average(self, dice: float) -> float:
        """Continue the moving average of the pseudo-Dice; it starts at the first value."""
        average, decay = self.progress.pseudo_dice_average, self.settings.train.dice_decay
        return decay * (dice if average is None else average) + (1 - decay) * dice

    def _save(self, state: TrainState, tracker: Tracker, *, scored: bool) -> None:
        # All log rows up to the checkpoint must be on the disk before it.
        tracker.flush()
        self._checkpoints.save(first_replica(state), self.progress, scored=scored)

    def _save_and_stop(self, state: TrainState, tracker: Tracker, signal: int) -> None:
        """Save a checkpoint of where the run stands, unless there is one, and raise `Stopped`."""
        if self._checkpoints.latest != self.progress.number:
            self._save(state, tracker, scored=False)
        self._checkpoints.wait()
        raise Stopped(signal, f"saved at step {self.progress.step}; --resume goes on from there")
