"""The file dataset.json of nnU-Net and of the Medical Segmentation Decathlon, and its labels."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from kitsjax.errors import InputError
from kitsjax.input_file import open_file, reading
from kitsjax.labels import KITS, LabelScheme
from kitsjax.make_scheme import make_scheme
from kitsjax.settings import LabelSettings

NAME = "dataset.json"

IGNORE = "ignore"
"""nnU-Net's name of the label of voxels that nobody annotated."""

BACKGROUND_NAME = "background"
"""The name of value 0 in both formats."""

_logger = logging.getLogger(__name__)


def read_dataset_json(root: Path) -> dict[str, Any]:
    """Read the object in a data folder's dataset.json.

    Raises:
        InputError: The file is missing, or holds no JSON object.
    """
    path = root / NAME
    with open_file(path) as file, reading(path):
        text = file.read()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON ({error}); correct it") from None
    if not isinstance(content, dict):
        raise InputError(f'{path}: holds no JSON object; write {{"labels": {{...}}, ...}}')
    return content


def read_scheme(root: Path, content: dict[str, Any]) -> LabelScheme:
    """Read the label scheme of a dataset.json: names by value, or nnU-Net 2's values by name.

    Labels of the names of KiTS's have KiTS's evaluation classes. A label `ignore` marks voxels that
    nobody annotated, as in nnU-Net.

    Args:
        root: the data folder, for messages.
        content: what `read_dataset_json` returned.

    Raises:
        InputError: The labels are missing, are regions, or their values are not 0, 1, 2, ...
    """
    path = root / NAME
    labels = content.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise InputError(f'{path}: no labels; write "labels": {{"background": 0, "name": 1, ...}}')
    items = [*labels.items()]
    if all(map(str.isdecimal, labels)) and all(isinstance(n, str) for n in labels.values()):
        items = [(name, value) for value, name in items]
    pairs = [(name, _parse_value(path, name, value)) for name, value in items]
    pairs.sort(key=lambda pair: pair[1])
    names = [name for name, _ in pairs]
    if [value for _, value in pairs] != list(range(len(pairs))):
        values = ", ".join(str(value) for _, value in pairs)
        raise InputError(
            f"{path}: label values {values} are not 0, 1, 2, ... without gaps; renumber the labels"
        )
    if names[0].lower() != BACKGROUND_NAME:
        _logger.warning("%s: value 0 is named %s, and taken for the background", path, names[0])
    has_ignore = names[-1].lower() == IGNORE
    if not has_ignore and IGNORE in map(str.lower, names):
        raise InputError(f"{path}: the label ignore must have the highest value; renumber it")
    return _make_scheme(path, names[: len(names) - has_ignore], has_ignore)


def check_channels(root: Path, content: dict[str, Any]) -> None:
    """Refuse a data set of several channels, such as MR sequences; note one that is no CT.

    Raises:
        InputError: `channel_names` or `modality` names more than one.
    """
    for key in ("channel_names", "modality"):
        channels = content.get(key)
        if isinstance(channels, dict):
            channels = [*channels.values()]
        if not isinstance(channels, list):
            continue
        named = ", ".join(map(str, channels))
        if len(channels) > 1:
            raise InputError(
                f"{root / NAME}: {key} names {len(channels)} channels ({named}), and kitsjax reads "
                "one; give a data set of CTs"
            )
        if "ct" not in named.lower():
            _logger.warning("%s: %s is %s; its voxels are taken for HU", root / NAME, key, named)


def note_count(root: Path, content: dict[str, Any], found: int) -> None:
    """Log a note if the number of training cases is not the one that dataset.json tells."""
    told = content.get("numTraining")
    if told is not None and str(told) != str(found):
        _logger.warning(
            "%s: numTraining is %s, but there are %d training cases", root / NAME, told, found
        )


def locate(root: Path, name: object, what: str) -> Path:
    """Return the path of a file that dataset.json names, below the data folder.

    Args:
        root: the data folder.
        name: the path as written, from the data folder; Windows writes backslashes.
        what: what the file is, for messages.

    Raises:
        InputError: It is no path, or leads out of the data folder.
    """
    path = _parse_path(name)
    if not path.name or "\0" in path.name:
        found = "missing" if name is None else repr(name)
        raise InputError(f"{root / NAME}: {what} is {found}; write the path of a file")
    if path.is_absolute() or ".." in path.parts:
        raise InputError(
            f"{root / NAME}: {what} {name!r} lies outside of the data folder; move or link it into "
            "the folder, and name it from there"
        )
    return root / path


def is_litter(name: object) -> bool:
    """Tell whether a path is of a hidden file, such as macOS leaves (`._name`) in archives."""
    return _parse_path(name).name.startswith(".")


def _parse_path(name: object) -> PurePosixPath:
    """Parse a path with slashes or backslashes; one without a name if it is no text."""
    return PurePosixPath(name.replace("\\", "/") if isinstance(name, str) else "")


def _parse_value(path: Path, name: object, value: object) -> int:
    """Return a label value, which JSON keys hold as text."""
    if isinstance(value, list):
        raise InputError(
            f"{path}: label {name!r} is a region (a list of values), which kitsjax does not train "
            "on; give each label one value"
        )
    if isinstance(value, bool) or not str(value).isdecimal():
        raise InputError(f"{path}: label {name!r} has the value {value!r}; give whole numbers")
    return int(str(value))


def _make_scheme(path: Path, names: Sequence[str], ignore: bool) -> LabelScheme:
    """Make the scheme of the names of the label values from 0; KiTS's keep their classes."""
    own = () if tuple(names[1:]) == KITS.names[1:] else tuple(names[1:])
    if not names[1:]:
        raise InputError(f"{path}: no label besides the background; name the labels")
    try:
        return make_scheme(LabelSettings(names=own, ignore=ignore))
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
    except InputError as error:
        reason = str(error)
    raise InputError(f"{path}: {reason}; correct the labels")
