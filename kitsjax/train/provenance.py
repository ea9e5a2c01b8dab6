"""Where a trained model comes from, for the model file that leaves its run folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

from kitsjax.data.split import Split, split_text
from kitsjax.errors import InputError
from kitsjax.infer.packaged_models import locate_model
from kitsjax.run_record import RECORD_NAME
from kitsjax.train.run_folder import load_record
from kitsjax.train.summary import SUMMARY_NAME


def read_provenance(model: str | Path) -> dict[str, Any]:
    """Collect the provenance of a finished run's model: package versions, split and scores.

    Args:
        model: as `load_model` takes it. For a model file, or a model of the package, the result is
            empty: the file holds its provenance.

    Raises:
        InputError: the run is not finished, or its masks are to be made and scored again.
    """
    folder = locate_model(model)
    if not folder.is_dir():
        return {}
    record = load_record(folder)
    if record is not None and record.stage == "predicting":
        raise InputError(
            f"{folder}: its masks are not those of its model any more, or not all made, so "
            "its scores are not the model's; predict and score them: bin/train.py --resume"
        )
    try:
        summary = json.loads((folder / SUMMARY_NAME).read_text())
    except (OSError, ValueError):
        summary = None
    if record is None or summary is None:
        raise InputError(
            f"{folder}: not a finished run ({RECORD_NAME} or {SUMMARY_NAME} is missing or "
            "damaged); go on with it: bin/train.py --resume"
        )
    split = split_text(Split(tuple(record.train), tuple(record.held_out)))
    return {
        "versions": record.versions,
        "split": {
            "sha256": hashlib.sha256(split.encode()).hexdigest(),
            "train": len(record.train),
            "held_out": len(record.held_out),
        },
        "scores": summary,
    }
