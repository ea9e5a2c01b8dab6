"""What a training imports, once for all trials; it touches no device."""

from pathlib import Path

from kitsjax import host_watch
from kitsjax.command import exit_with, run_command
from kitsjax.devices import connect_devices, start_devices
from kitsjax.settings import RunSettings
from kitsjax.signals import ignore_signals
from kitsjax.train.loop import TrainingLoop

__all__ = [
    "Path", "RunSettings", "TrainingLoop", "connect_devices", "exit_with", "host_watch",
    "ignore_signals", "run_command", "start_devices",
]  # fmt: skip
