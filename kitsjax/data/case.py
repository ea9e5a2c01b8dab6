"""A case: the files of one patient's scan, in whatever layout its data set lies."""

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from kitsjax.errors import InputError

_KITS_ID = re.compile(r"case_(\d{5})")

_UNSAFE = frozenset('/\\,"')
"""Characters that a path or a table of scores would take for something else."""


@dataclass(frozen=True)
class Case:
    """The files of one case, which is one patient's scan.

    Attributes:
        case_id: its name, which is safe as the name of a file: `case_00000` in KiTS.
        image: CT in HU. The file may be missing where `open_dataset` was told so.
        label: label map with the values of the data set's scheme. The file may be missing likewise.
        annotations: folder of the individual annotations; None without any.
        problem: why its files cannot be taken, such as a folder that cannot be read, or two
            images; empty if they can.
        dataset: folder of the data set, where cases share the folders of their files; None where
            each case has a folder of its own in it, as in KiTS.
    """

    case_id: str
    image: Path
    label: Path
    annotations: Path | None = None
    problem: str = ""
    dataset: Path | None = None

    @property
    def has_truth(self) -> bool:
        """Whether there is anything to score against (KiTS19's cases 210 to 299 have nothing).

        A case with a problem counts, so that scoring it tells.
        """
        return bool(self.problem) or self.annotations is not None or self.has_label

    @property
    def has_label(self) -> bool:
        """Whether a file has the label's name; reading it tells of a link that leads nowhere."""
        return os.path.lexists(self.label)

    @property
    def folder(self) -> Path:
        """The folder that all files of the case lie in: its own, or else the data set's."""
        return self.dataset or self.image.parent

    @property
    def root(self) -> Path:
        """The folder of the data set."""
        return self.dataset or self.image.parent.parent

    @property
    def place(self) -> str:
        """What messages call the case: its folder, or the data set's folder and its id."""
        return f"{self.dataset}: {self.case_id}" if self.dataset else str(self.folder)

    @property
    def seed(self) -> int:
        """What seeds the draws for this case: 21 for `case_00021`, a hash of any other id."""
        number = _KITS_ID.fullmatch(self.case_id)
        return int(number[1]) if number else zlib.crc32(self.case_id.encode())


def check_case_id(name: str, source: str | Path) -> str:
    """Return a case's name if it is safe as the name of a file and in a table.

    Args:
        name: the name.
        source: where it comes from, for the message.

    Raises:
        InputError: It is not.
    """
    is_safe = name.isprintable() and name == name.strip() and not name.startswith(".")
    if not name or not is_safe or _UNSAFE & set(name):
        raise InputError(
            f"{str(source)!r}: {name!r} is no name for a case; rename it, without commas, quotes, "
            "slashes, control characters, and dots or spaces around it"
        )
    return name
