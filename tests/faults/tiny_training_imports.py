"""What a training imports, once for all trials; it touches no device."""

from pathlib import Path

from kitsjax import host_watch
from kitsjax.devices import connect_devices, start_devices
from kitsjax.settings import RunSettings
from kitsjax.signals import Stopped
from kitsjax.train.loop import TrainingLoop

__all__ = [
    "Path", "RunSettings", "Stopped", "TrainingLoop", "connect_devices", "host_watch",
    "start_devices",
]  # fmt: skip
