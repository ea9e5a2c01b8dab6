"""kitsjax: 3D segmentation of kidneys, renal tumors and cysts on CT, in pure JAX.

The names below are all that inference in a notebook needs. They are loaded when first used, so
that `import kitsjax` is quick and touches no device.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitsjax.data.preprocess import preprocess
    from kitsjax.errors import InputError
    from kitsjax.evaluate.scoring import ClassScore, score
    from kitsjax.image.read_nifti import read_label, read_volume
    from kitsjax.image.volume import Volume, make_volume
    from kitsjax.image.write_nifti import write_volume
    from kitsjax.infer.bundle import load_model
    from kitsjax.infer.predict import probabilities, segment
    from kitsjax.infer.trained_model import Model
    from kitsjax.train.step import TrainState, init_state, train_step

__version__ = "0.1.0"

_MODULES = {
    "ClassScore": "evaluate.scoring",
    "InputError": "errors",
    "Model": "infer.trained_model",
    "TrainState": "train.step",
    "Volume": "image.volume",
    "init_state": "train.step",
    "load_model": "infer.bundle",
    "make_volume": "image.volume",
    "preprocess": "data.preprocess",
    "probabilities": "infer.predict",
    "read_label": "image.read_nifti",
    "read_volume": "image.read_nifti",
    "score": "evaluate.scoring",
    "segment": "infer.predict",
    "train_step": "train.step",
    "write_volume": "image.write_nifti",
}

__all__ = [
    "ClassScore",
    "InputError",
    "Model",
    "TrainState",
    "Volume",
    "init_state",
    "load_model",
    "make_volume",
    "preprocess",
    "probabilities",
    "read_label",
    "read_volume",
    "score",
    "segment",
    "train_step",
    "write_volume",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'kitsjax' has no attribute {name!r}")
    value = getattr(import_module(f"kitsjax.{_MODULES[name]}"), name)
    # Found without this function from now on.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
