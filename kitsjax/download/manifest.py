"""The list of what was downloaded, `downloads.json` beside the cases: sizes, sums, addresses."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from kitsjax.errors import InputError
from kitsjax.files import write_text
from kitsjax.input_file import open_file

MANIFEST_NAME = "downloads.json"
"""File name of the list in the data folder."""

FORMAT = 1
"""Version of the list; raised when an older kitsjax would misread a new one."""


class Entry(BaseModel):
    """A file that is whole.

    Attributes:
        size: number of bytes.
        sha256: its sum, hexadecimal digits.
        url: where it came from; empty if it was there before the first download.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    size: int
    sha256: str
    url: str


class Manifest(BaseModel):
    """The content of `downloads.json`.

    Attributes:
        format: version of the list.
        data_set: name of the data set; a folder holds one.
        files: entries by path within the folder, with forward slashes.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    format: int = FORMAT
    data_set: str
    files: dict[str, Entry] = {}


def read_manifest(folder: Path, data_set: str) -> Manifest:
    """Read the list of a folder; an empty one if there is none.

    Raises:
        InputError: It is damaged, of another format, or of another data set.
    """
    path = folder / MANIFEST_NAME
    if not path.exists():
        return Manifest(data_set=data_set)
    try:
        with open_file(path) as file:
            manifest = Manifest.model_validate_json(file.read())
    except ValidationError:
        raise InputError(
            f"{path}: is damaged; move it away, and the files beside it are tested anew"
        ) from None
    if manifest.format != FORMAT:
        raise InputError(f"{path}: has format {manifest.format}, not {FORMAT}; update kitsjax")
    if manifest.data_set != data_set:
        raise InputError(
            f"{folder}: holds {manifest.data_set}; give --dataset {manifest.data_set}, or choose "
            "another folder with --output"
        )
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the list atomically."""
    write_text(folder / MANIFEST_NAME, manifest.model_dump_json(indent=1) + "\n")
