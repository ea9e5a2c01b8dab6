"""Read a scan, whatever it is stored as: a NIfTI file, a DICOM file or a folder of DICOM files."""

from pathlib import Path

from kitsjax.dicom.cases import find_dicom
from kitsjax.dicom.read_series import read_dicom
from kitsjax.dicom.series import Series
from kitsjax.errors import InputError
from kitsjax.image import read_nifti
from kitsjax.image.volume import Grid, Volume
from kitsjax.input_file import reading

Source = Path | Series
"""A NIfTI, NRRD or MetaImage file, or a DICOM series."""


def read_volume(source: str | Path | Series, series: str | None = None) -> Volume:
    """Read a CT as float32 in HU: a NIfTI, NRRD or MetaImage file, or a DICOM file or folder.

    Of a DICOM folder with several series one is read, and notes name all. Reading DICOM needs the
    extra: `pip install 'kitsjax[dicom]'`.

    Args:
        source: the file or folder, or a series that `cases.find_dicom` found.
        series: the number or UID of a DICOM series; None: the most plausible one.

    Raises:
        InputError: The file is missing or damaged, or has no usable geometry (see
            `read_nifti.read_volume` and `read_series.read_dicom`); the folder holds several cases;
            a series is asked for, but there is no DICOM.
    """
    if isinstance(source, Series):
        return read_dicom(source)
    with reading(source):
        cases = find_dicom(Path(source), series)
    if len(cases) > 1:
        raise InputError(f"{source}: holds {len(cases)} cases; give the folder of one")
    if cases:
        return read_dicom(cases[0][0])
    if series is not None:
        raise InputError(f"{source}: holds no DICOM, so there is no series; read it without series")
    return read_nifti.read_volume(source)


def read_grid(source: Source) -> Grid:
    """Read where the voxels lie from the headers alone; raises as `read_volume`."""
    return source.stack.grid if isinstance(source, Series) else read_nifti.read_grid(source)


def files_of(source: Source) -> list[Path]:
    """List the files that a scan is stored in."""
    return [file.path for file in source.files] if isinstance(source, Series) else [source]
