"""Ensembles: the models of several files and run folders, and of all folds of a cross-validation.

Their probabilities are averaged; `trained_model.stack_models` says which models go together.
"""

import logging
from pathlib import Path

from kitsjax.data.folds import find_fold_folders
from kitsjax.infer.bundle import BUNDLE_NAME, load_model
from kitsjax.infer.packaged_models import locate_model
from kitsjax.infer.trained_model import Model

_logger = logging.getLogger(__name__)


def load_ensemble(*paths: str | Path) -> list[Model]:
    """Load the models of an ensemble.

        models = kj.load_ensemble("runs/kits21")  # with fold_0 to fold_4
        label = kj.segment(models, volume)

    Args:
        paths: model files, folders of finished runs, names of the package's models, and folders
            with the runs of folds, of which every one that has a model takes part.

    Returns:
        The models, for `segment`; each is also a model of its own.

    Raises:
        InputError: see `load_model`.
    """
    return [load_model(file) for path in paths for file in find_models(path)]


def find_models(path: str | Path) -> list[Path]:
    """List the model files that a path stands for; a note counts those of folds.

    A path without any is returned as it is, so that reading it says what is wrong.

    Raises:
        InputError: a model of the package that is not in this build.
    """
    path = locate_model(path)
    folds = [] if (path / BUNDLE_NAME).is_file() else find_fold_folders(path)
    found = [fold / BUNDLE_NAME for fold in folds if (fold / BUNDLE_NAME).is_file()]
    if not found:
        return [path]
    lost = [fold.name for fold in folds if fold / BUNDLE_NAME not in found]
    without = f" ({', '.join(lost)} has none yet)" if lost else ""
    _logger.warning("%s: averages the models of %d folds%s", path, len(found), without)
    return found
