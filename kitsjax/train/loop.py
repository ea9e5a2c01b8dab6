"""The training loop: epochs of steps and validation, with their log and checkpoints."""

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np

from kitsjax.data.pipeline import Batch
from kitsjax.errors import InputError
from kitsjax.hosts import barrier, is_main
from kitsjax.model.arrays import Params
from kitsjax.settings import Settings
from kitsjax.signals import Stopped, watch_signals
from kitsjax.train.checkpoint import Checkpoints
from kitsjax.train.checkpoint_record import Progress
from kitsjax.train.optimizer import learning_rate_at
from kitsjax.train.program import build_program, compile_train_step
from kitsjax.train.replication import first_replica, local_value, replicate
from kitsjax.train.run_folder import CHECKPOINTS
from kitsjax.train.start import choose_start
from kitsjax.train.state import TrainState
from kitsjax.train.step import Metrics
from kitsjax.train.step_errors import describe_divergence, explain_memory
from kitsjax.train.stop_vote import StopVote
from kitsjax.train.streams import Cases, OpenStreams, open_feeds, open_pipelines
from kitsjax.train.time_account import TimeAccount
from kitsjax.train.tracking import Tracker
from kitsjax.train.validation import continue_average, score_validation
from kitsjax.training_log import Row

_Step = tuple[int, Batch, Metrics]
"""A step that was given to the devices: its number from 1, its batch and its metrics."""


class TrainingLoop:
    """The training of a run on this host, up to its last epoch.

    If the run folder holds checkpoints, training resumes from the latest one, exactly: the
    parameters, the optimizer's state, the position of both pipelines and all later random numbers
    are those of an unbroken run.

    Attributes:
        program: network, optimizer and compiled steps.
        state: the state that training starts from, without the leading axis of devices.
        progress: where the run stands.
        steps: train steps of the whole run.
        initial: checksum of the model `train.init_from`, if these are its parameters; else empty.
        resumed: whether it goes on from a checkpoint.

    Raises:
        InputError: the batch does not fit the devices; see also `choose_start`.
    """

    def __init__(
        self, settings: Settings, folder: Path, train_cases: Cases, validation_cases: Cases
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.train_cases = train_cases
        self.validation_cases = validation_cases
        self.program = build_program(settings)
        self.steps = settings.train.epochs * settings.train.batches
        self._rate = partial(learning_rate_at, settings.optimizer, self.steps)
        self._checkpoints = Checkpoints(folder / CHECKPOINTS)
        start = choose_start(settings, self.program, self._checkpoints)
        self.state, self.progress, self.initial, self.resumed = start

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.progress.epoch >= self.settings.train.epochs

    def compile(self) -> jax.stages.Compiled:
        """Compile the train step, which training then uses, and return it for analysis."""
        with explain_memory():
            found = compile_train_step(self.settings, self.program, self.state)
        self.program, compiled = found
        return compiled

    def fit(
        self,
        open_streams: OpenStreams | None = None,
        began: float | None = None,
        stepped: Callable[[], None] = lambda: None,
    ) -> tuple[Params, Progress] | None:
        """Train until all epochs are done.

        Args:
            open_streams: opens the streams of batches, if they come from elsewhere than the cases.
            began: when the run began, in seconds since 1970, for its goodput; None: now.
            stepped: is called after every step, of training and of validation.

        Returns:
            The best parameters (of `TrainState.kept`) and where the run stood when they were saved;
            None on the other hosts, whose disks may not show the last checkpoint yet.

        Raises:
            InputError: a checkpoint is damaged, the disk is full, the loss is no longer finite, or
                the device is out of memory.
            Stopped: SIGTERM or SIGINT came to one of the hosts. A checkpoint of all that is done
                was saved.
        """
        if not self.finished:
            start = self.progress
            self._began = began or time.time()
            self._account = TimeAccount(start.productive_seconds)
            tracker = Tracker(self.folder, start.step, start.epoch, self.steps, active=is_main())
            with tracker, explain_memory(), watch_signals() as seen:
                self._vote, self._stepped = StopVote(seen), stepped
                self._training, self._validation = open_feeds(
                    self.settings, self.train_cases, self.validation_cases, start,
                    open_streams or open_pipelines,
                )  # fmt: skip
                stop = self._run_epochs(tracker, self._vote.signals)
            # A signal that came after the vote is this host's alone; the others end with it.
            if stop or seen:
                raise Stopped(stop or seen[0], "all epochs are done; --resume predicts and scores")
        best = self._checkpoints.restore_best(self.state.params) if is_main() else None
        self._checkpoints.close()
        return best

    def _run_epochs(self, tracker: Tracker, signals: list[int]) -> int:
        """Train, validate, log and save, epoch by epoch; return what `StopVote.close` finds."""
        train, progress = self.settings.train, self.progress
        # Else the first device would hold the first state beside the one that is trained.
        state, self.state = replicate(self.state), jax.device_get(self.state)
        for epoch in range(progress.epoch, train.epochs):
            began = time.perf_counter()
            state, speed = self._train_epoch(state, tracker, signals)
            scores = self._validate(state.kept, signals)
            if signals:
                # A validation that was broken off is made again as a whole.
                self._save_and_stop(state, tracker, signals[0])
            progress.epoch = epoch + 1
            progress.pseudo_dice_average = continue_average(
                progress.pseudo_dice_average, scores["pseudo_dice"], train.dice_decay
            )
            tracker.epoch({
                "epoch": progress.epoch,
                "step": progress.step,
                "train_loss": float(np.mean(progress.losses)),
                "pseudo_dice_average": progress.pseudo_dice_average,
                "learning_rate": self._rate(progress.step),
                "grad_norm": float(np.mean(progress.grad_norms)),
                "patches_per_second": speed,
                "seconds": time.perf_counter() - began,
                **scores,
                **self._account.take_shares(),
                "goodput": self._account.goodput(self._began),
            })  # fmt: skip
            progress.losses, progress.grad_norms = [], []
            if self.finished or progress.epoch % train.checkpoint_epochs == 0:
                self._save(state, tracker, scored=True)
        self._checkpoints.wait()
        return self._vote.close()

    def _train_epoch(
        self, state: TrainState, tracker: Tracker, signals: list[int]
    ) -> tuple[TrainState, float | None]:
        """Take the steps that the epoch still lacks, or stop early at a signal.

        Returns:
            The new state, and the patches a second; None if no step was left.
        """
        progress, account = self.progress, self._account
        first, began = progress.step, time.perf_counter()
        end = (progress.epoch + 1) * self.settings.train.batches
        pending: _Step | None = None  # Read one step late, so that no device waits for Python.
        while progress.step < end and not signals:
            account.mark("host")
            batch, arrays = next(self._training)
            account.mark("data")
            state, metrics = self.program.train_step(state, arrays)
            account.mark_first("train step")
            due = self._vote.cast(self._checkpoints.is_due(self.settings.train.checkpoint_minutes))
            self._stepped()
            account.follow(metrics["loss"])
            account.mark("host")
            self._training.send_next()
            account.mark("data")
            self._record_step(tracker, pending)
            progress.step += 1
            pending = progress.step, batch, metrics
            if due:
                self._record_step(tracker, pending)
                pending = None
                self._save(state, tracker, scored=False)
        self._validation.send_next()
        self._record_step(tracker, pending)
        patches = (progress.step - first) * self.settings.sampling.batch_size
        return state, patches / (time.perf_counter() - began) if patches else None

    def _record_step(self, tracker: Tracker, taken: _Step | None) -> None:
        """Wait for the metrics of a step, check and log them; None: there is no step."""
        if taken is None:
            return
        step, batch, metrics = taken
        self._account.mark("host")
        loss, norm = (float(local_value(metrics[name])) for name in ("loss", "grad_norm"))
        self._account.mark("device")
        if not math.isfinite(loss) or not math.isfinite(norm):
            # The message names the last good checkpoint, which may still be being written.
            self._checkpoints.wait()
            names = [self.train_cases[i].case_id for i in batch["case"]]
            raise InputError(describe_divergence(step, loss, norm, names, self._checkpoints))
        self.progress.losses.append(loss)
        self.progress.grad_norms.append(norm)
        rate = self._rate(step - 1)
        tracker.step({"step": step, "loss": loss, "grad_norm": norm, "learning_rate": rate})

    def _validate(self, params: Params, signals: list[int]) -> Row:
        """Compute the loss and the pseudo-Dice over an epoch's validation patches.

        At a signal it breaks off and returns nothing.
        """
        self._account.mark("host")
        found, pending = list[Row](), list[Metrics]()
        for _ in range(self.settings.train.validation_batches):
            if signals:
                return {}
            metrics = self.program.eval_step(params, next(self._validation)[1])
            self._account.mark_first("eval step")
            self._stepped()
            self._validation.send_next()
            # One step late, as in training, so that no more than two batches wait.
            found += jax.tree.map(local_value, pending)
            pending = [metrics]
        found += jax.tree.map(local_value, pending)
        self._account.mark("validating")
        return score_validation(found, self.program.scheme)

    def _save(self, state: TrainState, tracker: Tracker, *, scored: bool) -> None:
        # All log rows up to the checkpoint must be on the disk before it.
        tracker.flush()
        self._account.mark("host")
        self.progress.productive_seconds = self._account.productive_seconds
        self._checkpoints.save(first_replica(state), self.progress, scored=scored)
        self._account.mark("saving")

    def _save_and_stop(self, state: TrainState, tracker: Tracker, signal: int) -> None:
        """Save a checkpoint of where the run stands, unless there is one, and raise `Stopped`."""
        if self._checkpoints.latest != self.progress.number:
            self._save(state, tracker, scored=False)
        self._checkpoints.wait()
        barrier("saving before the end")  # A host that ends would interrupt the others' waiting.
        raise Stopped(signal, f"saved at step {self.progress.step}; --resume goes on from there")
