"""The decision to stop training at a signal, which all hosts take at the same step."""

import jax
import numpy as np

from kitsjax.hosts import host_count
from kitsjax.train.replication import AXIS


class StopVote:
    """Collects the signals of all hosts, so that all stop when one of them is asked to.

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
        self._reduce = jax.pmap(lambda number: jax.lax.pmax(number, AXIS), axis_name=AXIS)
        self._pending: jax.Array | None = None

    def cast(self) -> None:
        """Cast this host's vote and count the one before; all hosts call it after every step.

        A vote is counted one step late, as the metrics are read, so that nobody waits for it.
        """
        if self.signals is self.seen:
            return
        if self._pending is not None and not self.signals:
            number = int(np.asarray(self._pending.addressable_shards[0].data)[0])
            if number:
                self.signals.append(number)
        own = np.int32(self.seen[0] if self.seen else 0)
        self._pending = self._reduce(np.full(jax.local_device_count(), own))
