"""What is published where: the cases of each KiTS data set, their files, and what is wrong."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kitsjax.data.kits import IMAGE_STEM, LABEL_STEMS
from kitsjax.errors import InputError, name_first

IMAGING = (
    "https://huggingface.co/datasets/neheller/KiTS-Challenge-Imaging/resolve/main/images/"
    "case_{case:05d}.nii.gz",
    "https://kits19.sfo2.digitaloceanspaces.com/master_{case:05d}.nii.gz",
)
"""Addresses of a CT. The first is what the challenge's own scripts have used since May 2026, and
publishes SHA-256 sums; the second is that of KiTS21's starter code."""

_SECOND_PHASE = (
    "KiTS19 published this scan with a second contrast phase at its end, whose kidneys have no "
    "label, and cropped or replaced it later (issue 6 of neheller/kits19); look at its last slices "
    "before you train on it"
)
_OTHER_SHAPE = {
    160: "its scan has 252 x 512 x 796 voxels, where nearly all others have slices of 512 x 512"
}

_RANGE = re.compile(r"(\d+)(?:-(\d+))?", re.ASCII)


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    Attributes:
        name: as `--dataset` has it.
        cases: numbers of the cases that are downloaded unless others are asked for.
        unlabelled: numbers of further cases, whose labels are not public.
        label_stem: the label's file name without .nii.gz.
        label: address of a label with a place for {case}.
        clone: the git repository that holds the labels.
        folder: the folder of that repository that holds the case folders.
        annotations: the folder of individual annotations in a case folder, which is not
            downloaded, because its file names differ from case to case; empty without.
        imaging: addresses of a CT with a place for {case}; the first that answers is used.
        problems: what is wrong with the cases that are known to be bad.
    """

    name: str
    cases: tuple[int, ...]
    label_stem: str
    label: str
    clone: str
    folder: str
    unlabelled: tuple[int, ...] = ()
    annotations: str = ""
    imaging: tuple[str, ...] = IMAGING
    problems: Mapping[int, str] = field(default_factory=lambda: _OTHER_SHAPE)


@dataclass(frozen=True)
class Published:
    """A file of a case as it is published.

    Attributes:
        case: the case's number.
        stem: the file's name without .nii.gz.
        urls: its addresses, the preferred one first.
        otherwise: what else can be done where no address gives it; empty if nothing.
    """

    case: int
    stem: str
    urls: tuple[str, ...]
    otherwise: str = ""


DATA_SETS = {
    data_set.name: data_set
    for data_set in (
        DataSet(
            name="kits21",
            cases=tuple(range(300)),
            label_stem=LABEL_STEMS[0],
            label="https://raw.githubusercontent.com/neheller/kits21/master/kits21/data/"
            f"case_{{case:05d}}/{LABEL_STEMS[0]}.nii.gz",
            clone="https://github.com/neheller/kits21",
            folder="kits21/data",
            annotations="segmentations",
        ),
        DataSet(
            name="kits23",
            cases=(*range(300), *range(400, 589)),
            label_stem=LABEL_STEMS[1],
            label="https://raw.githubusercontent.com/neheller/kits23/main/dataset/"
            f"case_{{case:05d}}/{LABEL_STEMS[1]}.nii.gz",
            clone="https://github.com/neheller/kits23",
            folder="dataset",
        ),
        DataSet(
            name="kits19",
            cases=tuple(range(210)),
            unlabelled=tuple(range(210, 300)),
            label_stem=LABEL_STEMS[1],
            label="https://raw.githubusercontent.com/neheller/kits19/master/data/"
            f"case_{{case:05d}}/{LABEL_STEMS[1]}.nii.gz",
            clone="https://github.com/neheller/kits19",
            folder="data",
            problems=_OTHER_SHAPE | dict.fromkeys((15, 25, 61, 117), _SECOND_PHASE),
        ),
    )
}
"""The data sets by their names."""


def case_name(case: int) -> str:
    """Return a case's folder name: case_00021 for 21."""
    return f"case_{case:05d}"


def parse_cases(text: str | None, data_set: DataSet) -> list[int]:
    """Read a list of case numbers and ranges, such as "0-9,12"; without one, take all.

    Returns:
        The numbers, sorted, each once.

    Raises:
        InputError: It is no such list, or names a case that the data set does not have.
    """
    if text is None:
        return list(data_set.cases)
    cases: set[int] = set()
    known = {*data_set.cases, *data_set.unlabelled}
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last:
            raise InputError(
                f"--cases {text}: {part.strip() or 'an empty part'} is no case number or range; "
                "give numbers and ranges such as 0-9,12"
            )
        # A range may be absurdly long: it is cut off behind the last case, which no set has.
        asked = range(first, min(last, max(known) + 1) + 1) or range(first, first + 1)
        if missing := [case for case in asked if case not in known]:
            raise InputError(
                f"--cases {text}: {data_set.name} has no {name_first(missing, 1, case_name)}; its "
                f"cases are {describe_cases(known)}"
            )
        cases.update(asked)
    return sorted(cases)


def describe_cases(cases: set[int]) -> str:
    """Write case numbers as ranges: "0-299 and 400-588"."""
    ordered = sorted(cases)
    starts = [case for case in ordered if case - 1 not in cases]
    ends = [case for case in ordered if case + 1 not in cases]
    return " and ".join(
        str(first) if first == last else f"{first}-{last}"
        for first, last in zip(starts, ends, strict=True)
    )


def list_published(data_set: DataSet, case: int) -> list[Published]:
    """List the files of a case that can be downloaded: its CT and, if it is public, its label."""
    files = [Published(case, IMAGE_STEM, tuple(url.format(case=case) for url in data_set.imaging))]
    if case not in data_set.unlabelled:
        place = f"{data_set.folder}/case_*/{data_set.label_stem}.nii.gz"
        otherwise = f"labels are also had by cloning {data_set.clone}: copy {place}"
        url = data_set.label.format(case=case)
        files.append(Published(case, data_set.label_stem, (url,), otherwise))
    return files
