"""The names of cases from those of their image files, of which a channel's number is no part.

nnU-Net names the image of case X `X_0000.nii.gz`: the number is that of the channel. kitsjax reads
one channel, a CT.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from kitsjax.errors import InputError
from kitsjax.image.file_format import image_stem

FIRST_CHANNEL = "_0000"
"""What nnU-Net adds to the name of a case for its first channel."""

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")


def name_cases(files: Sequence[Path], known: Collection[str] = ()) -> list[str]:
    """Name the cases of image files: the file's name without its suffix and channel.

    A number other than 0000 belongs to the name, unless there is a channel 0000 of the same name:
    scan_0001 is a case, but beside scan_0000 it is a second channel of scan.

    Args:
        files: image files of any folders.
        known: names of cases in lower case, such as those of labels. A file that has one of them
            is its image, whatever number the name ends with.

    Raises:
        InputError: A case has two channels; the message names them.
    """
    stems = [image_stem(file.name) or file.name for file in files]
    first = {stem.lower(): file for stem, file in zip(stems, files, strict=True)}
    names = []
    for file, stem in zip(files, stems, strict=True):
        channel = _CHANNEL.fullmatch(stem)
        if channel is None or stem.lower() in known:
            names.append(stem)
            continue
        other = first.get(f"{channel['case']}{FIRST_CHANNEL}".lower())
        if int(channel["number"]) and other:
            raise InputError(
                f"{other} and {file.name} are two channels of {channel['case']} by their names, "
                "and kitsjax reads one; move the others away, or rename the files of other cases"
            )
        names.append(stem if int(channel["number"]) else channel["case"])
    return names


def find_named(files: dict[str, list[Path]], case_id: str) -> tuple[str, list[Path]]:
    """Find the files of a case among files by their names in lower case, without suffixes.

    Args:
        files: files by name.
        case_id: the case; `X_0000` is a file of X where there is no X.

    Returns:
        The name that they are found by, and the files; none if there are none.
    """
    name = case_id.lower()
    found = name if name in files else name + FIRST_CHANNEL
    return found, files.get(found, [])
