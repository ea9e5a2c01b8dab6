"""Open a data set, in whichever layout its folder is: its cases, and its labels if it names them.

kits        case_00000/imaging.nii.gz and segmentation.nii.gz, or KiTS21's majority label
nnunet      imagesTr/X_0000.nii.gz, labelsTr/X.nii.gz, dataset.json
decathlon   dataset.json with a list of the images and labels
pairs       images/X.nii.gz and labels/X.nii.gz
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kitsjax.data.case import Case
from kitsjax.data.dataset_json import NAME, locate, read_dataset_json
from kitsjax.data.decathlon import find_decathlon, list_entries
from kitsjax.data.kits import NAMES, is_case_name, list_cases
from kitsjax.data.nnunet import IMAGES, KEYS, find_nnunet
from kitsjax.data.pairs import find_pairs, has_pairs
from kitsjax.data.require_files import PLAIN_NAMES, Names, require_files
from kitsjax.errors import InputError
from kitsjax.failures import catch
from kitsjax.image.case_names import FIRST_CHANNEL
from kitsjax.image.file_format import image_stem, list_folder
from kitsjax.input_file import check_is_folder, reading
from kitsjax.labels import KITS, LabelScheme
from kitsjax.make_scheme import make_scheme
from kitsjax.settings import LabelSettings

AUTO, KITS_LAYOUT = "auto", "kits"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawDataset:
    """A data set as its folder has it.

    Attributes:
        root: the folder.
        layout: a key of `LAYOUTS`.
        cases: sorted by id.
        scheme: the labels that the data set names; None if it names none.
    """

    root: Path
    layout: str
    cases: list[Case]
    scheme: LabelScheme | None = None


class Layout(NamedTuple):
    """A layout of data folders.

    Attributes:
        sign: what such a folder holds, for messages.
        fits: tells whether a folder holds it.
        find: finds the cases of a folder, of which files may be missing, and its labels.
        names: what messages call the files.
    """

    sign: str
    fits: Callable[[Path], bool]
    find: Callable[[Path], tuple[list[Case], LabelScheme | None]]
    names: Names = PLAIN_NAMES


def _has_case_folders(root: Path) -> bool:
    return any(is_case_name(path.name) and path.is_dir() for path in list_folder(root))


def _fits_nnunet(root: Path) -> bool:
    """Tell nnU-Net's layout, whose version 1 lists its images, too, but without the channel."""
    content = _peek(root)
    if any(key in content for key in KEYS):
        return True
    return (root / IMAGES).is_dir() and not _fits_decathlon(root)


def _fits_decathlon(root: Path) -> bool:
    content = _peek(root)
    return isinstance(content.get("training"), list) and not _lists_without_channel(root, content)


def _lists_without_channel(root: Path, content: dict[str, Any]) -> bool:
    """Tell whether the first image listed that is there in any way has a channel in its name."""
    for entry in list_entries(content):
        path = catch(locate, root, entry.get("image"), "a training image")
        stem = None if isinstance(path, InputError) else image_stem(path.name)
        if stem is None or isinstance(path, InputError):
            continue
        if path.exists():
            return False
        channel = path.name.replace(stem, stem + FIRST_CHANNEL, 1)
        if path.with_name(channel).exists():
            return True
    return False


def _peek(root: Path) -> dict[str, Any]:
    """Return the object in dataset.json; empty without one, which opening the data set tells."""
    content = catch(read_dataset_json, root)
    return {} if isinstance(content, InputError) else content


LAYOUTS: dict[str, Layout] = {
    KITS_LAYOUT: Layout(
        "folders case_XXXXX", _has_case_folders, lambda root: (list_cases(root), None), NAMES
    ),
    "nnunet": Layout(f"{IMAGES}/ and nnU-Net's {NAME}", _fits_nnunet, find_nnunet),
    "decathlon": Layout(f"{NAME} with a list training", _fits_decathlon, find_decathlon),
    "pairs": Layout("images/ and labels/", has_pairs, lambda root: (find_pairs(root), None)),
}
"""The layouts by name: the values of `data.layout` besides "auto"."""


def open_dataset(root: str | Path, layout: str = AUTO, complete: bool = True) -> RawDataset:
    """Find the cases of a data set and the labels that it names.

    Args:
        root: the folder of the data set.
        layout: a key of `LAYOUTS`; "auto" takes the one that the folder fits, and a note says
            which if it is not KiTS's.
        complete: True requires an image and a label for every case, as training does, and a note
            names what belongs to no case. False requires only one case with a label or
            annotations, as scoring does.

    Raises:
        InputError: The folder is missing or cannot be read, fits no layout or several, or is not
            what its layout asks for; a required file is missing: all incomplete cases are named.
    """
    root = Path(root)
    check_is_folder(root, "no such data folder", "give the folder of a data set")
    with reading(root):
        taken = _choose_layout(root) if layout == AUTO else layout
        cases, scheme = LAYOUTS[taken].find(root)
    if not cases:
        raise InputError(f"{root}: holds no case; give the folder that holds images and labels")
    if layout == AUTO and taken != KITS_LAYOUT:
        labels = f", labels {', '.join(scheme.names[1:])}" if scheme else ""
        _logger.warning("%s: layout %s, %d cases%s", root, taken, len(cases), labels)
    cases = require_files(root, cases, complete, LAYOUTS[taken].names)
    return RawDataset(root, taken, cases, scheme)


def resolve_scheme(labels: LabelSettings, found: RawDataset) -> LabelScheme:
    """Make the label scheme of a data set: its own, as [labels] completes it, or that of [labels].

    Args:
        labels: section of the settings; without names the data set's own scheme holds, or KiTS's.
        found: the data set.

    Raises:
        InputError: [labels] and the data set name other labels.
    """
    scheme = make_scheme(labels, found.scheme or KITS)
    own = found.scheme
    if own and (scheme.names[1:], scheme.ignore) != (own.names[1:], own.ignore):
        raise InputError(
            f"{found.root}: its dataset.json names the labels {_name_values(own)}, and "
            f"[labels] names {_name_values(scheme)}; leave out labels.names and labels.ignore, or "
            "correct one of the two"
        )
    return scheme


def _choose_layout(root: Path) -> str:
    """Return the one layout that a folder fits.

    Raises:
        InputError: It fits none, or several.
    """
    fitting = [name for name, layout in LAYOUTS.items() if layout.fits(root)]
    if len(fitting) == 1:
        return fitting[0]
    signs = [f"{LAYOUTS[name].sign} ({name})" for name in fitting or LAYOUTS]
    if fitting:
        raise InputError(
            f"{root}: fits several layouts: {' and '.join(signs)}; choose one with data.layout "
            "(--layout)"
        )
    raise InputError(
        f"{root}: holds no data set; looked for {'; '.join(signs)}; give the folder that holds one "
        "of these"
    )


def _name_values(scheme: LabelScheme) -> str:
    """List the names of the label values from 1."""
    return ", ".join([*scheme.names[1:], *(["ignore"] if scheme.ignore else [])])
