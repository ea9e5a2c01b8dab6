"""The post-processing that `bin/postprocess.py` chose for a run, as the run goes on with it.

It stands in the model file, which is used with it, and in the run's record, so that a model file
that is made again from the checkpoints has it, too.
"""

from collections.abc import Mapping
from typing import Any

from kitsjax.hosts import is_main
from kitsjax.infer.postprocess import CHOICE, get_steps, keep_choice
from kitsjax.run_record import RunRecord
from kitsjax.settings import Settings
from kitsjax.train.run_folder import package_versions


def describe_origin(record: RunRecord | None) -> dict[str, Any]:
    """Make the provenance of a model file that is to be made, or made again; see `save_bundle`."""
    chosen = {CHOICE: record.postprocess} if record and record.postprocess else {}
    return {"versions": package_versions()} | chosen


def take_choice(settings: Settings, provenance: Mapping[str, Any]) -> Settings:
    """Return the settings with what was chosen for the model, and print where that differs."""
    predict = keep_choice(settings.predict, provenance)
    changed = [
        f"predict.{name} = {value}"
        for name, value in get_steps(predict).items()
        if getattr(settings.predict, name) != value
    ]
    if changed and is_main():
        print(f"post-processing as bin/postprocess.py chose it: {', '.join(changed)}")
    return settings.model_copy(update={"predict": predict})
