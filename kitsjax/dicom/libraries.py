"""The libraries of the extra `dicom`, loaded at the first DICOM file."""

from importlib import import_module
from typing import Any

from kitsjax.errors import InputError

EXTRA = "install what reads it: python -m pip install 'kitsjax[dicom]'"
"""Advice where a library of the extra is missing."""


def load_pydicom(source: object) -> Any:
    """Import pydicom, and keep it from printing what a file holds.

    Its warnings about unusual values quote them, and such a value may be the patient's name.

    Args:
        source: the file or folder that needs it, for the message.

    Raises:
        InputError: It is not installed.
    """
    pydicom = _load("pydicom", source)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    return pydicom


def load_highdicom(source: object) -> Any:
    """Import highdicom; arguments and errors are those of `load_pydicom`."""
    load_pydicom(source)
    return _load("highdicom", source)


def _load(name: str, source: object) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise InputError(f"{source}: is DICOM, and {name} is not installed; {EXTRA}") from None
