"""Where the time of a training goes, and how much of it moves the run forward."""

import time
from collections.abc import Callable
from typing import Literal

import jax

Part = Literal["device", "data", "host", "saving", "validating"]

PARTS: tuple[Part, ...] = ("device", "data", "host", "saving", "validating")
"""Parts of the time, in the order of the log.

`device` is the time in which the devices trained, whatever the host did meanwhile. `data` and
`host` are what they waited for: the next batch, and other work of the loop. `saving` is the time
in which a checkpoint held up the loop, and `validating` a whole validation.
"""


class TimeAccount:
    """Divides the wall time of the training loop into parts, from one mark to the next.

    Attributes:
        productive_seconds: seconds of training and validating that the run holds the results of,
            those of earlier starts included.

    Args:
        productive_seconds: those of earlier starts.
        clock: returns seconds from any point in time.
    """

    def __init__(
        self, productive_seconds: float = 0.0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.productive_seconds = productive_seconds
        self._clock = clock
        self._last = clock()
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._running: jax.Array | None = None
        self._called: set[str] = set()

    def follow(self, result: jax.Array) -> None:
        """Take note of a result of the step that was given to the devices last."""
        self._running = result

    def mark(self, part: Part) -> None:
        """Count the time since the last mark as this part.

        Reading data and other work of the host count as `device` if the devices have still not
        finished their last step: nothing waited for them.
        """
        now = self._clock()
        if part in ("data", "host") and self._is_training():
            part = "device"
        self._seconds[part] += now - self._last
        if part in ("device", "validating"):
            self.productive_seconds += now - self._last
        self._last = now

    def mark_first(self, step: str) -> None:
        """Count the time since the last mark as the host's if this is the first call of a step.

        That call compiles the step, unless it was compiled before. Later calls mark nothing.
        """
        if step not in self._called:
            self._called.add(step)
            self.mark("host")

    def take_shares(self) -> dict[str, float]:
        """Return the share of each part since the last call, which sum to 1, and begin anew."""
        self.mark("host")
        total = sum(self._seconds.values())
        shares = {
            f"share_{part}": seconds / total if total else 1 / len(PARTS)
            for part, seconds in self._seconds.items()
        }
        self._seconds = dict.fromkeys(PARTS, 0.0)
        return shares

    def goodput(self, began: float) -> float:
        """Return the productive share of the time since the run began, between 0 and 1.

        All other time lowers it: starting and compiling, waiting for data, saving, steps that were
        lost and made again, and the time between a stop and the next start.

        Args:
            began: when the run began, in seconds since 1970.
        """
        elapsed = time.time() - began
        # A clock that was set back does not make a run better than perfect.
        return self.productive_seconds / max(elapsed, self.productive_seconds, 1e-9)

    def _is_training(self) -> bool:
        if self._running is None:
            return False
        # jax.Array does not declare what its implementation has.
        return not self._running.addressable_data(0).is_ready()  # type: ignore[attr-defined]
