"""Ensembles: the models of several files and run folders, and of all folds of a cross-validation.

Their probabilities are averaged; `trained_model.stack_models` says which models go together.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from kitsjax.data.folds import find_fold_folders
from kitsjax.infer.bundle import BUNDLE_NAME, Bundle, make_model, read_bundle
from kitsjax.infer.packaged_models import locate_model
from kitsjax.infer.trained_model import FREE_PREDICT, Model
from kitsjax.settings import PredictSettings

_logger = logging.getLogger(__name__)


def load_ensemble(*paths: str | Path) -> list[Model]:
    """Load the models of an ensemble.

        models = kj.load_ensemble("runs/kits21")  # with fold_0 to fold_4
        label = kj.segment(models, volume)

    Args:
        paths: model files, folders of finished runs, names of the package's models, and folders
            with the runs of folds, of which every one that has a model takes part.

    Returns:
        The models, for `segment`; each is also a model of its own. The first one's [predict] holds
        for all, and a note tells if another one's differs.

    Raises:
        InputError: see `load_model`.
    """
    return [make_model(bundle.params, bundle.settings) for bundle in read_ensemble(paths)]


def read_ensemble(paths: Iterable[str | Path], overrides: Iterable[str] = ()) -> list[Bundle]:
    """Read the model files of an ensemble; a note tells of a [predict] that is not the first one's.

    Args:
        paths: see `load_ensemble`.
        overrides: changes of the settings of all models, such as "predict.mirror=true".

    Raises:
        InputError: see `load_model`; or an override is not valid.
    """
    files, overrides = [file for path in paths for file in find_models(path)], list(overrides)
    bundles = [read_bundle(file, overrides) for file in files]
    _note_difference(files, bundles)
    return bundles


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


def _note_difference(files: Sequence[Path], bundles: Sequence[Bundle]) -> None:
    """Note the first setting in which a model would predict otherwise than the first one does."""
    settings = [bundle.settings.predict for bundle in bundles]
    for file, other in list(zip(files, settings, strict=True))[1:]:
        for name in PredictSettings.model_fields:
            own, first = getattr(other, name), getattr(settings[0], name)
            if name not in FREE_PREDICT and own != first:
                _logger.warning(
                    "%s: its predict.%s is %r, but %r of the first model, %s, holds for all; give "
                    "the model first whose [predict] is to hold",
                    file, name, own, first, files[0],
                )  # fmt: skip
                return
