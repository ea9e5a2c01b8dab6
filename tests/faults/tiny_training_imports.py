"""What a training imports, once for all trials; it touches no device."""

from pathlib import Path

from kitsjax.signals import Stopped
from kitsjax.train.loop import TrainingLoop

__all__ = ["Path", "Stopped", "TrainingLoop"]
