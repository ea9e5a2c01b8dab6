"""The decisions to stop training at a signal and to save: all hosts take them at the same step."""

import jax
import numpy as np

from kitsjax.hosts import exchange, host_count
from kitsjax.train.replication import AXIS, local_value


class StopVote:
    """Collects the hosts' votes: all stop when one is asked to, and save when one finds it due.

    The hosts take their steps together. A host that left alone would leave the others waiting, and
    a checkpoint needs all of them at one step.

    Attributes:
        seen: the signals of this host, to which `watch_signals` appends.
        signals: the signals that all hosts know of; with a single host, its own.
    """

    def __init__(self, seen: list[int]) -> None:
        self.seen = seen
        self.signals = seen if host_count() == 1 else []
        # A reduction beside that of the gradients; without it nothing compiles for a single host.
        self._reduce = jax.pmap(lambda votes: jax.lax.pmax(votes, AXIS), axis_name=AXIS)
        self._pending: jax.Array | None = None

    def cast(self, due: bool = False) -> bool:
        """Cast this host's votes and count those before; all hosts call it after every step.

        Votes are counted one step late, as the metrics are read, so that nobody waits for them.

        Args:
            due: whether this host finds that a checkpoint is due: clocks differ.

        Returns:
            Whether all hosts save one now.
        """
        if self.signals is self.seen:
            return due
        number = found_due = 0
        if self._pending is not None:
            number, found_due = local_value(self._pending).tolist()
        if number and not self.signals:
            self.signals.append(number)
        # The checkpoint that is saved now ends what was due.
        own = self.seen[0] if self.seen else 0, due and not found_due
        votes = np.tile(np.array(own, np.int32), (jax.local_device_count(), 1))
        self._pending = self._reduce(votes)
        return bool(found_due)

    def close(self) -> int:
        """Count the votes since the last step; all hosts call it when training is done.

        A host that ended alone would interrupt the others' work.

        Returns:
            The signal at which all hosts end; 0: none.
        """
        own = self.seen[0] if self.seen else 0
        numbers = [int(text) for text in exchange("ending the training", str(own))]
        return next(filter(None, numbers), 0)
