"""The libraries of the extra `dicom`, loaded at the first DICOM file."""

from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

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


def read_dataset(path: Path, source: object, **options: Any) -> Any:
    """Read a DICOM file by pydicom, whose warnings do not tell its path: a name may be in it.

    Args:
        path: the file.
        source: what needs pydicom, for the message.
        options: those of `pydicom.dcmread`.

    Raises:
        InputError: pydicom is not installed.
        OSError: The file cannot be read; pydicom raises other exceptions for damage.
    """
    pydicom = load_pydicom(source)
    with path.open("rb") as file:
        dataset = pydicom.dcmread(_Nameless(file), **options)
    # Where pydicom copies a dataset, it would warn that a closed file has no copy.
    dataset.buffer = None
    return dataset


def load_highdicom(source: object) -> Any:
    """Import highdicom; arguments and errors are those of `load_pydicom`."""
    load_pydicom(source)
    return _load("highdicom", source)


class _Nameless:
    """A file as pydicom reads it, without the name that its warnings would quote."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _load(name: str, source: object) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise InputError(f"{source}: is DICOM, and {name} is not installed; {EXTRA}") from None
