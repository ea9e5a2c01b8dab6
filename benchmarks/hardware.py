"""The machine and the packages that a benchmark ran on, which stand beside its numbers."""

import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kitsjax.cores import cores

PACKAGES = (
    "kitsjax", "jax", "jaxlib", "flax", "numpy", "scipy", "nnunetv2", "batchgeneratorsv2", "torch",
    "monai", "scikit-image", "surface-distance",
)  # fmt: skip


def describe_machine() -> dict[str, str]:
    """Describe the machine: its processor, cores, memory, accelerators and system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": str(cores()),
        "memory": f"{memory:.0f} GiB",
        "accelerators": _accelerators() or "none",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def describe_packages() -> dict[str, str]:
    """Return the version of each package that is compared, if it is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def measured_notes(machine: Mapping[str, Any], packages: Mapping[str, Any]) -> list[str]:
    """Make the notes of a table that say with which machine and packages it was measured."""
    return [f"Measured on: {list_items(machine)}.", f"With {list_items(packages)}."]


def list_items(items: Mapping[str, Any]) -> str:
    """List names with their values in one line."""
    return ", ".join(f"{name} {value}" for name, value in items.items())


def is_installed(module: str) -> bool:
    """Tell whether a module can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def _accelerators() -> str:
    """Ask JAX for the accelerators, in another process, since JAX takes most of a GPU's memory."""
    code = (
        "import jax; print(', '.join(d.device_kind for d in jax.devices() if d.platform != 'cpu'))"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return asked.stdout.strip()


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
