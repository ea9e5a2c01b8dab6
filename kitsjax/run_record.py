"""The record of a run folder, `run.json`: how its run was begun and where it stands.

The record alone decides whether a folder holds a run.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kitsjax.errors import InputError
from kitsjax.files import write_text

RECORD_NAME = "run.json"
"""File name of the record in a run folder."""

FORMAT = 1
"""Version of the record; raised when an older kitsjax would misread a new one."""

Stage = Literal["training", "predicting", "finished"]
"""What a run does next. Each stage is written when all before it is on the disk."""

FileStates = dict[str, dict[str, str]]
"""What tells each file that a run reads from a changed one, by case id and name within the case."""


class KeptEpoch(BaseModel):
    """The epoch whose parameters a finished training kept.

    Attributes:
        epoch: number from 1.
        pseudo_dice_average: its moving average of the pseudo-Dice, the best of all checkpoints.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    epoch: int
    pseudo_dice_average: float


class RunRecord(BaseModel):
    """The content of `run.json`.

    Attributes:
        format: version of the record.
        stage: what the run does next.
        settings: all settings of the run, TOML.
        intensities: the numbers that all images are normalized by, as they were given or measured
            when training began; empty if each case is normalized by its own.
        initial: checksum of the model `train.init_from` whose parameters training began with; empty
            if they were random.
        versions: versions of the packages that the numbers depend on, and the kind of device.
        train, held_out: case ids of the split, sorted.
        files: the files of these cases as the run was begun with them.
        began: when training began first, in seconds since 1970; 0 if an older version did not note
            it.
        kept: the epoch whose parameters are in the model file; None while training.
        scored: a hash of the masks and true labels that `scores/` was made from, empty without.
        postprocess: what `bin/postprocess.py` chose for the run's model and where it comes from, so
            that a model file that is made again has it, too; empty without.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    format: int = FORMAT
    stage: Stage = "training"
    settings: str
    versions: dict[str, str]
    train: list[str]
    held_out: list[str]
    files: FileStates = {}
    intensities: list[float] = []
    initial: str = ""
    began: float = 0.0
    kept: KeptEpoch | None = None
    scored: str = ""
    postprocess: dict[str, Any] = {}


def read_record(folder: str | Path) -> RunRecord | None:
    """Read the record of a run folder; None if there is none.

    Raises:
        InputError: it cannot be read, is damaged or of a newer version.
    """
    path = Path(folder) / RECORD_NAME
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the run's record ({error.strerror}); make it readable"
        ) from None
    try:
        number = json.loads(text)["format"]
        if isinstance(number, int) and number > FORMAT:
            raise InputError(
                f"{path}: written by a newer kitsjax (format {number}, this one reads {FORMAT}); "
                "upgrade kitsjax"
            )
        return RunRecord.model_validate_json(text)
    except (ValidationError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise InputError(
            f"{path}: damaged; put back a copy, or move it away and --resume makes it anew from "
            "settings.toml and split.json"
        ) from None


def write_record(folder: str | Path, record: RunRecord) -> None:
    """Write the record of a run folder atomically, and to the disk itself."""
    text = record.model_dump_json(indent=1) + "\n"
    write_text(Path(folder) / RECORD_NAME, text, sync=True)
