"""A phantom's folder, converted to each layout of a data set that kitsjax reads."""

import json
import shutil
from pathlib import Path

NAMES = {"background": 0, "kidney": 1, "tumor": 2, "cyst": 3}


def list_phantom(root):
    """List (id, CT, majority label) of a phantom's cases."""
    return [
        (case.name, case / "imaging.nii.gz", case / "aggregated_MAJ_seg.nii.gz")
        for case in sorted(Path(root).glob("case_*"))
    ]


def put(path, source):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, path)


def write_json(root, **content):
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(content))


def to_kits(phantom, root):
    shutil.copytree(phantom, root)


def to_nnunet(phantom, root):
    """Write nnU-Net 2's layout."""
    cases = _put_channels(phantom, root)
    write_json(
        root, channel_names={"0": "CT"}, labels=NAMES, numTraining=len(cases), file_ending=".nii.gz"
    )


def to_nnunet_1(phantom, root):
    """Write nnU-Net 1's layout: the list of files leaves out the channel."""
    _put_channels(phantom, root)
    _write_list(phantom, root)


def to_nnunet_files(phantom, root):
    """Write nnU-Net 2's layout of a list of files in any folders."""
    files = {}
    for name, image, label in list_phantom(phantom):
        put(root / "scans" / f"{name}.nii.gz", image)
        put(root / "truth" / f"{name}_seg.nii.gz", label)
        files[name] = {"images": [f"scans/{name}.nii.gz"], "label": f"truth/{name}_seg.nii.gz"}
    write_json(root, channel_names={"0": "CT"}, labels=NAMES, dataset=files)


def to_decathlon(phantom, root):
    for name, image, label in list_phantom(phantom):
        put(root / "imagesTr" / f"{name}.nii.gz", image)
        put(root / "labelsTr" / f"{name}.nii.gz", label)
        (root / "imagesTr" / f"._{name}.nii.gz").touch()
    _write_list(phantom, root)


def to_pairs(phantom, root):
    for name, image, label in list_phantom(phantom):
        put(root / "images" / f"{name}.nii.gz", image)
        put(root / "labels" / f"{name}.nii.gz", label)


def _put_channels(phantom, root):
    cases = list_phantom(phantom)
    for name, image, label in cases:
        put(root / "imagesTr" / f"{name}_0000.nii.gz", image)
        put(root / "labelsTr" / f"{name}.nii.gz", label)
    return cases


def _write_list(phantom, root):
    names = [name for name, *_ in list_phantom(phantom)]
    write_json(
        root,
        modality={"0": "CT"},
        labels={str(value): name for name, value in NAMES.items()},
        numTraining=len(names),
        training=[
            {"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names
        ],
        test=[],
    )


CONVERT = {
    "kits": [to_kits],
    "nnunet": [to_nnunet, to_nnunet_1, to_nnunet_files],
    "decathlon": [to_decathlon],
    "pairs": [to_pairs],
}
"""Functions (phantom, new folder) that write each layout of `LAYOUTS`, in each of its ways."""
