"""kitsjax: 3D segmentation of kidneys, renal tumors and cysts on CT, in pure JAX.

The names below are the functional API for notebooks. Each is loaded at its first use, so that
`import kitsjax` is fast and does not initialize JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the aliases tell type checkers that these names are public
    from kitsjax.data.preprocess import preprocess as preprocess
    from kitsjax.dicom.read_volume import read_volume as read_volume
    from kitsjax.errors import InputError as InputError
    from kitsjax.evaluate.score_volumes import score as score
    from kitsjax.evaluate.scoring import ClassScore as ClassScore
    from kitsjax.image.read_nifti import read_label as read_label
    from kitsjax.image.volume import Volume as Volume
    from kitsjax.image.volume import make_volume as make_volume
    from kitsjax.image.write_nifti import write_volume as write_volume
    from kitsjax.infer.bundle import load_model as load_model
    from kitsjax.infer.ensemble import load_ensemble as load_ensemble
    from kitsjax.infer.predict import probabilities as probabilities
    from kitsjax.infer.predict import segment as segment
    from kitsjax.infer.trained_model import Model as Model
    from kitsjax.train.state import TrainState as TrainState
    from kitsjax.train.state import init_state as init_state
    from kitsjax.train.step import train_step as train_step

__version__ = "0.1.0"

_MODULES = {  # public name -> module that defines it
    "ClassScore": "evaluate.scoring",
    "InputError": "errors",
    "Model": "infer.trained_model",
    "TrainState": "train.state",
    "Volume": "image.volume",
    "init_state": "train.state",
    "load_ensemble": "infer.ensemble",
    "load_model": "infer.bundle",
    "make_volume": "image.volume",
    "preprocess": "data.preprocess",
    "probabilities": "infer.predict",
    "read_label": "image.read_nifti",
    "read_volume": "dicom.read_volume",
    "score": "evaluate.score_volumes",
    "segment": "infer.predict",
    "train_step": "train.step",
    "write_volume": "image.write_nifti",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'kitsjax' has no attribute {name!r}")
    value = getattr(import_module(f"kitsjax.{_MODULES[name]}"), name)
    # The next use finds the name without this function.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
