"""Ask servers for files, and ask again after a fault that may pass."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

from kitsjax.download.faults import DownloadError, Transient
from kitsjax.download.request import Remote, open_remote

LONGEST_BACKOFF_S = 60.0
"""The longest time between two tries, unless a server asks for a longer one."""

LONGEST_WAIT_S = 600.0
"""The longest time between two tries that a server may ask for."""

FIRST_TRIES = 4
"""How often a host is tried in a row that has never answered: most likely it cannot be reached."""

NOTED_WAIT_S = 8.0
"""The user is told of waits that are at least this long."""

Result = TypeVar("Result")

_logger = logging.getLogger(__name__)


@dataclass
class Client:
    """Ask servers for files; several threads may share one client.

    Attributes:
        timeout_s: longest time without a byte from the server, seconds.
        tries: how often in a row a file is tried without any new byte.
        stop: when it is set, transfers end.
        sleep: waits so many seconds; None waits no longer than until `stop`.
        answered: hosts that have answered.
        unreachable: hosts that gave no answer in all tries, with the reason. They are not asked
            again.
    """

    timeout_s: float = 30.0
    tries: int = 12
    stop: threading.Event = field(default_factory=threading.Event)
    sleep: Callable[[float], object] | None = None
    answered: set[str] = field(default_factory=set)
    unreachable: dict[str, str] = field(default_factory=dict)

    def describe(self, url: str) -> Remote:
        """Ask what a file is; raises as `retry`."""

        def ask() -> Remote:
            # Its first byte, not HEAD: signed addresses, to which some places redirect, are valid
            # for GET alone.
            with open_remote(url, self.timeout_s, 0, 0) as answer:
                return answer.remote

        return self.retry(url, ask)

    def retry(self, url: str, attempt: Callable[[], Result]) -> Result:
        """Call a function until it raises no `Transient`, and return its result.

        The waits are as long as the server asks, and at least 1, 2, 4, ... up to 60 seconds.

        Args:
            url: the address that the function asks, for messages.
            attempt: called without arguments.

        Raises:
            DownloadError: It raised one, or it failed `tries` times in a row without a new byte, or
                the server asks for too long a wait.
        """
        failures = 0
        host = urlsplit(url).netloc
        while True:
            if reason := self.unreachable.get(host):
                raise DownloadError(f"{host}: {reason}")
            self.check_stop(url)
            try:
                result = attempt()
                self.answered.add(host)
                return result
            except Transient as fault:
                failures = 1 if fault.gained else failures + 1
                wait_s = self._next_wait(url, host, fault, failures)
            (self.sleep or self.stop.wait)(wait_s)

    def _next_wait(self, url: str, host: str, fault: Transient, failures: int) -> float:
        """Return how many seconds to wait after so many failures in a row, or give up."""
        if fault.answered:
            self.answered.add(host)
        if fault.wait_s > LONGEST_WAIT_S:
            raise DownloadError(
                f"{url}: {fault} and asks to wait {fault.wait_s:.0f} s; run it again then"
            )
        if failures >= (self.tries if host in self.answered else min(FIRST_TRIES, self.tries)):
            reason = f"{fault}, {failures} times in a row; run it again later"
            if not fault.answered:
                self.unreachable[host] = reason
                raise DownloadError(f"{host}: {reason}")
            raise DownloadError(f"{url}: {reason}")
        wait_s = max(fault.wait_s, min(2.0 ** (failures - 1), LONGEST_BACKOFF_S))
        if wait_s >= NOTED_WAIT_S:
            _logger.warning("%s: %s; trying again in %.0f s", url, fault, wait_s)
        return wait_s

    def check_stop(self, url: str) -> None:
        """Raise DownloadError if `stop` is set."""
        if self.stop.is_set():
            raise DownloadError(f"{url}: stopped; run it again to go on")
