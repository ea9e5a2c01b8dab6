"""Models that are part of the package, and are known by their names: no download, no path."""

from importlib.resources import files
from pathlib import Path

from kitsjax.errors import InputError

PACKAGED = ("synthetic",)
"""Names of the models; each is a model file `<name>.safetensors`, with a card `<name>.md`."""

FOLDER = Path(str(files("kitsjax"))) / "models"
"""The package's folder of models and their cards."""


def locate_model(path: str | Path) -> Path:
    """Return the path of a model file or run folder that a name or a path stands for.

    A text that is exactly a name of `PACKAGED` stands for the model in the package; a file or a
    folder of the user's with such a name is given as ./synthetic. Any other path is returned as it
    is, there or not.

    Raises:
        InputError: the model of that name is not in this build of the package.
    """
    if not (isinstance(path, str) and path in PACKAGED):
        return Path(path)
    file = FOLDER / f"{path}.safetensors"
    if not file.is_file():
        raise InputError(
            f"{path}: this build of kitsjax has no such model ({file} is missing); train it with "
            f"bin/train.py --config configs/{path}.toml, or give a run folder or a model file"
        )
    return file
