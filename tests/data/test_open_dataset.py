"""Opening data sets in each layout: their cases and labels, and what is refused in one line."""

import json
import shutil
from dataclasses import replace
from typing import get_args

import pytest
from layouts import (
    CONVERT,
    NAMES,
    put,
    to_decathlon,
    to_kits,
    to_nnunet,
    to_nnunet_1,
    to_nnunet_files,
    to_pairs,
    write_json,
)
from nifti_files import refusal

from kitsjax.data.open_dataset import LAYOUTS, open_dataset, resolve_scheme
from kitsjax.data.preprocess_case import preprocess_case
from kitsjax.labels import KITS
from kitsjax.phantom.dataset import make_phantom
from kitsjax.settings import DataSettings, LabelSettings, PreprocessSettings

WAYS = [(layout, convert) for layout, ways in CONVERT.items() for convert in ways]


@pytest.fixture(scope="module")
def two_cases(tmp_path_factory):
    """The folder of a phantom of two cases; not to be changed."""
    folder = tmp_path_factory.mktemp("phantom") / "raw"
    make_phantom(folder, 2, 64, seed=2, workers=1, progress=False)
    return folder


@pytest.fixture
def converted(two_cases, tmp_path):
    """Convert the phantom to a layout, in a folder that the test may change."""

    def convert(function):
        function(two_cases, tmp_path / "data")
        return tmp_path / "data"

    return convert


def test_the_setting_names_every_layout():
    names = get_args(DataSettings.model_fields["layout"].annotation)
    assert names == ("auto", *LAYOUTS)
    assert set(CONVERT) == set(LAYOUTS)


@pytest.mark.parametrize(("layout", "convert"), WAYS, ids=lambda way: getattr(way, "__name__", way))
def test_layouts_are_told_apart(converted, caplog, layout, convert):
    """A note says which it is; and asked for by name, it is the same."""
    root = converted(convert)
    found = open_dataset(root)
    assert (found.root, found.layout) == (root, layout)
    assert [case.case_id for case in found.cases] == ["case_00000", "case_00001"]
    assert [case.seed for case in found.cases] == [0, 1]
    assert all(case.image.is_file() and case.label.is_file() for case in found.cases)
    assert {case.root for case in found.cases} == {root}
    assert found.scheme == (None if layout in ("kits", "pairs") else KITS)
    labels = ", labels kidney, tumor, cyst" if found.scheme else ""
    expected = [] if layout == "kits" else [f"{root}: layout {layout}, 2 cases{labels}"]
    assert caplog.messages == expected
    assert open_dataset(root, layout) == found == open_dataset(root, complete=False)


def test_preprocessed_cases_are_those_of_kits(converted, two_cases, tmp_path):
    """The same voxels under the same name give the same bytes in every layout."""
    settings = PreprocessSettings(spacing_mm=8.0)
    (kits, _), (other, _) = (open_dataset(r).cases for r in (two_cases, converted(to_nnunet)))
    for case, name in ((kits, "a"), (other, "b")):
        assert preprocess_case(case, tmp_path / name, settings)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_any_safe_name_is_a_case(converted):
    root = converted(to_pairs)
    for folder in ("images", "labels"):
        (root / folder / "case_00001.nii.gz").rename(root / folder / "Müller 7 (b).NII.GZ")
    *_, case = open_dataset(root).cases
    assert case.case_id == "case_00000"
    case, _ = open_dataset(root).cases
    assert case.case_id == "Müller 7 (b)"
    assert case.seed == open_dataset(root).cases[0].seed > 300
    assert case.place == f"{root}: Müller 7 (b)"


def test_pairs_come_in_several_spellings(two_cases, tmp_path):
    first, _ = open_dataset(two_cases).cases
    spellings = [("Image", "mask", ""), ("ct", "SEG", "_0000"), ("cts", "label", "")]
    for images, labels, end in spellings:
        root = tmp_path / images
        put(root / images / f"{first.case_id}{end}.nii.gz", first.image)
        put(root / labels / f"{first.case_id}.nii.gz", first.label)
        (case,) = open_dataset(root).cases
        assert (case.case_id, case.image.parent.name) == (first.case_id, images)


def test_scoring_needs_labels_alone(converted):
    root = converted(to_nnunet)
    shutil.rmtree(root / "imagesTr")
    assert [case.image.exists() for case in open_dataset(root, complete=False).cases] == [False] * 2
    message = refusal(open_dataset, root)
    assert message.startswith(f"{root}: no image in case_00000, case_00001; add the files, or move")
    shutil.rmtree(root / "labelsTr")
    put(root / "imagesTr" / "a_0000.nii.gz", root / "dataset.json")
    assert refusal(open_dataset, root, complete=False) == f"{root}: no case has a label; add them"


def test_labels_become_the_scheme(converted):
    root = converted(to_nnunet)
    record = json.loads((root / "dataset.json").read_text())
    labels = {"ignore": 3, "background": 0, "liver": 1, "left kidney": 2}
    write_json(root, **record | {"labels": labels})
    scheme = open_dataset(root).scheme
    assert scheme.names == ("background", "liver", "left kidney")
    assert scheme.ignore == 3
    write_json(root, **record | {"labels": {"0": "background", "1": "spleen"}})
    assert open_dataset(root).scheme.names == ("background", "spleen")


def test_counts_and_other_folders_are_noted(converted, caplog):
    """A wrong numTraining is no fault; test images are no training cases; litter is no case."""
    for convert in (to_nnunet, to_decathlon):
        root = converted(convert)
        record = json.loads((root / "dataset.json").read_text())
        listed = record.get("training")
        more = {"training": [*listed, {"image": "./imagesTr/._x.nii.gz"}]} if listed else {}
        write_json(root, **record | {"numTraining": 7} | more)
        for name in ("imagesTs", "derivatives"):
            (root / name).mkdir()
        caplog.clear()
        assert len(open_dataset(root).cases) == 2
        count, _, folder = caplog.messages
        assert count == f"{root}/dataset.json: numTraining is 7, but there are 2 training cases"
        assert folder == f"{root}: passed over 1 file: derivatives (a folder)"
        shutil.rmtree(root)


STRAY = {
    to_pairs: ("g.nii.gz", "images/d.hdr", "images/d.img", "labels/e.nii.zst", "labels/sub/"),
    to_nnunet: ("derivatives/", "imagesTr/a_0000.png", "labelsTr/a.png", "labelsTr/sub/"),
    to_nnunet_1: ("imagesTr/a_0000.nii.bz2", "labelsTr/a.dcm"),
    to_nnunet_files: ("scans/a.nii.gz", "truth/a.mha"),
    to_decathlon: ("imagesTr/a.nii.gz", "labelsTr/a.nii.gz"),
}
"""Files and folders/ that belong to no case, by the way that the phantom is converted."""

DESCRIPTIONS = (
    "README", "LICENSE.txt", "kits.json", "splits_final.json", ".DS_Store", "cases.csv",
    "imagesTs/a.nii.gz", "labelsTs/a.nii.gz",
)  # fmt: skip
"""What data sets hold besides, in any layout."""


@pytest.mark.parametrize("convert", STRAY, ids=lambda way: way.__name__)
def test_what_belongs_to_no_case_is_noted(converted, caplog, convert):
    """All of it is in one note, and what a data set tells of itself is not."""
    root = converted(convert)
    first, _ = open_dataset(root).cases
    for folder in {first.image.parent, first.label.parent}:
        (folder / f"{first.case_id}.json").touch()
        (folder / "._x.nii.gz").touch()
    for name in (*DESCRIPTIONS, *STRAY[convert]):
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(exist_ok=True)
        if not path.is_dir():
            path.touch()
    caplog.clear()
    assert len(open_dataset(root).cases) == 2
    (note,) = (text for text in caplog.messages if "passed over" in text)
    named = ", ".join(STRAY[convert]).replace("/,", " (a folder),").removesuffix("/")
    assert note.removesuffix(" (a folder)") == (
        f"{root}: passed over {len(STRAY[convert])} files: {named}"
    )


def test_voxels_of_detached_headers_are_used(converted, caplog):
    """NRRD's .nhdr and MetaImage's .mhd have their voxels in a file of the same name."""
    root = converted(to_pairs)
    for name, voxels in (("case_00000.nhdr", "raw.gz"), ("case_00001.mhd", "zraw")):
        path = root / "images" / name
        (root / "images" / f"{path.stem}.nii.gz").rename(path)
        path.with_suffix(f".{voxels}").touch()
    open_dataset(root)
    assert "passed over" not in caplog.text
    (root / "images" / "case_00002.raw").touch()
    open_dataset(root)
    assert "passed over 1 file: images/case_00002.raw" in caplog.text


def note_channels(root, caplog, **changes):
    """Return what is noted of the channels or labels of a changed dataset.json."""
    record = json.loads((root / "dataset.json").read_text())
    write_json(root, **record | changes)
    caplog.clear()
    open_dataset(root)
    return [note.removeprefix(f"{root}/") for note in caplog.messages[:-1]]


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        (
            {"labels": {"liver": 0, "tumor": 1}},
            "dataset.json: value 0 is named liver, and taken for the background",
        ),
        ({"modality": {"0": "T1w"}}, "dataset.json: modality is T1w; its voxels are taken for HU"),
        (
            {"channel_names": ["MR"]},
            "dataset.json: channel_names is MR; its voxels are taken for HU",
        ),
        ({"numTraining": "2", "channel_names": {"0": "ct"}}, None),
    ],
)
def test_doubtful_values_are_noted(converted, caplog, changes, note):
    assert note_channels(converted(to_nnunet), caplog, **changes) == ([note] if note else [])


def test_values_may_be_written_as_text(converted):
    root = converted(to_nnunet)
    edit_json(labels={"background": "0", "1": "1", "liver": "2"})(root)
    assert open_dataset(root).scheme.names == ("background", "1", "liver")
    edit_json(labels={"0": "background", "1": "7", "2": "liver"})(root)
    assert open_dataset(root).scheme.names == ("background", "7", "liver")


def test_paths_of_windows_are_read(converted):
    """A backslash divides folders, and begins no hidden file."""
    root = converted(to_decathlon)
    entry = {key: path.replace("/", "\\") for key, path in ENTRY.items()}
    edit_json(training=[entry, {"image": ".\\imagesTr\\._x.nii.gz"}])(root)
    (case,) = open_dataset(root).cases
    assert (case.case_id, case.label) == ("case_00000", root / LABEL)


def edit_json(**changes):
    def edit(root):
        record = json.loads((root / "dataset.json").read_text())
        write_json(root, **record | changes)

    return edit


def copy_file(source, target):
    return lambda root: put(root / target, root / source)


def write_text(text):
    return lambda root: (root / "dataset.json").write_text(text)


def remove(name):
    return lambda root: (root / name).unlink()


IMAGE, LABEL = "imagesTr/case_00000_0000.nii.gz", "labelsTr/case_00000.nii.gz"
ENTRY = {"image": "./imagesTr/case_00000.nii.gz", "label": "./labelsTr/case_00000.nii.gz"}

WRONG = {
    "no json": (to_nnunet, remove("dataset.json"), "dataset.json: no such file; check the path"),
    "bad json": (to_nnunet, write_text("{"), "dataset.json: no JSON (Expecting"),
    "no object": (to_nnunet, write_text("[1]"), "dataset.json: holds no JSON object; write"),
    "bytes": (
        to_nnunet, lambda root: (root / "dataset.json").write_bytes(b"\xff\xfe{"), "no JSON ("
    ),
    "no labels": (to_nnunet, edit_json(labels={}), "dataset.json: no labels; write"),
    "regions": (
        to_nnunet,
        edit_json(labels={"background": 0, "whole": [1, 2], "tumor": 2}),
        "label 'whole' is a region (a list of values)",
    ),
    "gaps": (
        to_nnunet,
        edit_json(labels={"background": 0, "liver": 1, "tumor": 3}),
        "label values 0, 1, 3 are not 0, 1, 2, ... without gaps; renumber",
    ),
    "no number": (
        to_nnunet, edit_json(labels={"background": 0, "liver": 1.5}), "has the value 1.5; give"
    ),
    "twice": (
        to_nnunet,
        edit_json(labels={"0": "background", "1": "a", "2": "a"}),
        "dataset.json: every label needs a name of its own",
    ),
    "ignore": (
        to_nnunet,
        edit_json(labels={"background": 0, "ignore": 1, "liver": 2}),
        "the label ignore must have the highest value",
    ),
    "channel names": (
        to_nnunet,
        edit_json(channel_names={"0": "T1", "1": "T2"}),
        "channel_names names 2 channels (T1, T2), and kitsjax reads one",
    ),
    "modality": (
        to_decathlon, edit_json(modality={"0": "FLAIR", "1": "T1w"}), "modality names 2 channels"
    ),
    "second channel": (
        to_nnunet,
        copy_file(IMAGE, IMAGE.replace("0000.", "0001.")),
        "case_00000_0000.nii.gz and case_00000_0001.nii.gz are two channels of case_00000",
    ),
    "ending": (to_nnunet, edit_json(file_ending=".png"), "file_ending '.png' is none of .nii.gz"),
    "no label": (to_nnunet, remove(LABEL), "data: no label in case_00000; add the files"),
    "no image": (to_nnunet, remove(IMAGE), "data: no image in case_00000; add the files"),
    "both": (
        to_nnunet,
        lambda root: (root / "case_00000").mkdir(),
        "fits several layouts: folders case_XXXXX (kits) and imagesTr/ and nnU-Net's "
        "dataset.json (nnunet); choose one with data.layout (--layout)",
    ),
    "two spellings": (
        to_pairs,
        lambda root: (root / "ct").mkdir(),
        "data: needs one folder of images, image, ct, cts; there is: ct, images",
    ),
    "case only": (
        to_pairs,
        copy_file("labels/case_00000.nii.gz", "labels/CASE_00000.nii.gz"),
        "labels/CASE_00000.nii.gz and case_00000.nii.gz are of one case; keep one",
    ),
    "two formats": (
        to_pairs,
        copy_file("images/case_00000.nii.gz", "images/case_00000.nii"),
        "case_00000.nii and case_00000.nii.gz are of one case; keep one",
    ),
    "name": (
        to_pairs,
        copy_file("images/case_00000.nii.gz", "images/a,\nb.nii.gz"),
        "'a,\\nb' is no name for a case; rename it",
    ),
    "listed twice": (
        to_decathlon, edit_json(training=[ENTRY, ENTRY]), "are of one case; keep one"
    ),
    "listed by case": (
        to_decathlon,
        edit_json(training=[ENTRY, ENTRY | {"image": "./imagesTr/CASE_00000.nii.gz"}]),
        "imagesTr/CASE_00000.nii.gz and case_00000.nii.gz are of one case; keep one",
    ),
    "no list": (to_decathlon, edit_json(training=[]), "training lists no case"),
    "no path": (
        to_decathlon, edit_json(training=[ENTRY, 7]), "a training image is 7; write the path"
    ),
    "no label listed": (
        to_decathlon,
        edit_json(training=[{"image": ENTRY["image"]}]),
        "a training label is missing; write the path",
    ),
    "outside, Windows": (
        to_decathlon,
        edit_json(training=[ENTRY | {"label": "..\\labels\\x.nii.gz"}]),
        "lies outside of the data folder; move or link",
    ),
    "outside": (
        to_decathlon,
        edit_json(training=[ENTRY | {"label": "../labels/x.nii.gz"}]),
        "a training label '../labels/x.nii.gz' lies outside of the data folder; move or link",
    ),
    "absolute": (
        to_nnunet,
        edit_json(dataset={"a": {"images": ["/data/a.nii.gz"], "label": "a.nii.gz"}}),
        "the image of 'a' '/data/a.nii.gz' lies outside of the data folder",
    ),
    "two images": (
        to_nnunet,
        edit_json(dataset={"a": {"images": ["a.nii.gz", "b.nii.gz"], "label": "c.nii.gz"}}),
        "dataset: 'a' has 2 channels, and kitsjax reads one",
    ),
    "no images": (to_nnunet, edit_json(dataset={"a": []}), "dataset: 'a' has no images; write"),
    "no cases": (to_nnunet, edit_json(dataset=[]), "dataset is no object; write"),
    "listed, absent": (
        to_decathlon, remove("labelsTr/case_00001.nii.gz"), "data: no label in case_00001; add"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_data_sets_are_refused(converted, name):
    convert, edit, expected = WRONG[name]
    root = converted(convert)
    edit(root)
    assert expected in refusal(open_dataset, root)


def test_no_data_set_says_what_was_looked_for(tmp_path):
    message = refusal(open_dataset, tmp_path)
    assert message.startswith(
        f"{tmp_path}: holds no data set; looked for folders case_XXXXX (kits)"
    )
    for layout in LAYOUTS.values():
        assert layout.sign in message
    assert "no such data folder" in refusal(open_dataset, tmp_path / "none")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_layout_by_name_is_refused(two_cases, converted, tmp_path, layout):
    """Whatever is asked for by name is refused in one line if it is not there."""
    root = converted(to_pairs if layout == "kits" else to_kits)
    assert str(root) in refusal(open_dataset, root, layout)


def test_kits23_has_its_annotations(converted):
    """In KiTS23 the folder `instances` stands in place of KiTS21's `segmentations`."""
    root = converted(to_kits)
    first, second = open_dataset(root).cases
    first.annotations.rename(first.folder / "instances")
    assert [case.annotations.name for case in open_dataset(root).cases] == [
        "instances", "segmentations",
    ]  # fmt: skip
    (second.folder / "instances").mkdir()
    assert open_dataset(root).cases[1].annotations == second.annotations


def test_settings_and_data_set_agree_on_labels(converted):
    """Without names the data set's own labels hold; other settings complete them."""
    root = converted(to_nnunet)
    record = json.loads((root / "dataset.json").read_text())
    write_json(root, **record | {"labels": {"background": 0, "liver": 1, "ignore": 2}})
    found = open_dataset(root)
    assert resolve_scheme(LabelSettings(), found) == found.scheme
    same = LabelSettings(names=("liver",), ignore=True, lesions=("liver",))
    assert resolve_scheme(same, found).lesions == (1,)
    for other in (
        LabelSettings(names=("liver",)), LabelSettings(names=("spleen",), ignore=True),
        # A text of all names would be the same.
        LabelSettings(names=("liver, ignore",)),
    ):  # fmt: skip
        message = refusal(resolve_scheme, other, found)
        assert message.startswith(f"{root}: its dataset.json names the labels liver, ignore, and ")
        assert f"[labels] names {', '.join(other.names)}" in message


def test_a_data_set_without_names_is_kits(two_cases):
    found = open_dataset(two_cases)
    assert resolve_scheme(LabelSettings(), found) == KITS
    assert resolve_scheme(LabelSettings(names=("liver",)), found).names == ("background", "liver")


def test_nnunets_own_dataset_json_is_read(converted):
    own = pytest.importorskip(
        "nnunetv2.dataset_conversion.generate_dataset_json", reason="nnunetv2 is not installed"
    )
    root = converted(to_nnunet)
    (root / "dataset.json").unlink()
    own.generate_dataset_json(str(root), {0: "CT"}, NAMES | {"ignore": 4}, 2, ".nii.gz")
    found = open_dataset(root)
    assert (found.layout, len(found.cases)) == ("nnunet", 2)
    assert found.scheme == replace(KITS, ignore=4)
