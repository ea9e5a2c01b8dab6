"""The prediction of a run's held-out cases, which the hosts share."""

import json
from collections.abc import Sequence
from pathlib import Path

from kitsjax.data.case import Case
from kitsjax.evaluate.results import Failure
from kitsjax.hosts import exchange, host_count, host_index
from kitsjax.infer.bundle import load_model
from kitsjax.infer.predict_files import predict_files
from kitsjax.processes import take_shard


def predict_together(held_out: Sequence[Case], folder: Path) -> list[Failure]:
    """Predict cases with the model of a run folder, each on one host, into its `predictions/`.

    Masks that are whole and current stay, as with `bin/predict.py --continue`. A case that fails
    keeps the mask of an earlier prediction, if there is one.

    Returns:
        The cases that failed, on whichever host.
    """
    share = take_shard(held_out, (host_index(), host_count()))
    files = [(c.image, folder / "predictions" / f"{c.case_id}.nii.gz") for c in share]
    failures = predict_files(load_model(folder), files, keep_current=True) if files else []
    messages = dict(failures)
    own = [(case.case_id, messages[case.image]) for case in share if case.image in messages]
    parts = exchange("prediction", json.dumps(own))
    return [Failure(*one) for part in parts for one in json.loads(part)]
