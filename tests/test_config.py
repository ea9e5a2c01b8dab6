from pathlib import Path

import pytest

from kitsjax.config import (
    RENAMED,
    choose_scheme,
    get_section,
    load_settings,
    override_settings,
    parse_settings,
    parse_stored_settings,
    to_toml,
)
from kitsjax.errors import InputError
from kitsjax.labels import KITS
from kitsjax.make_scheme import make_scheme
from kitsjax.settings import Settings

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))


def test_toml_round_trip(tmp_path):
    settings = load_settings(overrides=["sampling.patch_shape=[64,32,16]", "run.folder=a b"])
    path = tmp_path / "settings.toml"
    path.write_text(to_toml(settings))
    assert load_settings(path) == settings != Settings()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_shipped_configs_are_valid(path):
    load_settings(path)


def test_paper_config_is_the_paper():
    paper = load_settings(CONFIGS[[p.name for p in CONFIGS].index("kits21_paper.toml")])
    assert paper.sampling.patch_shape == (128, 128, 128)
    assert (paper.sampling.batch_size, paper.train.batches, paper.train.epochs) == (4, 250, 1000)
    assert (paper.optimizer.learning_rate, paper.optimizer.momentum) == (0.06, 0.99)
    assert (paper.network.features, paper.network.max_features) == (32, 1024)
    assert paper.preprocess.spacing_mm == 1.99
    assert (paper.preprocess.normalize, paper.preprocess.intensities) == ("case", ())
    assert (paper.preprocess.lower_percentile, paper.preprocess.upper_percentile) == (0.5, 99.5)
    assert (paper.train.ema_decay, paper.loss.regions) == (0, False)
    assert (paper.sampling.class_weights, choose_scheme(paper)) == ((), KITS)
    draws = paper.augment
    assert {draws.mirror, draws.rotate, draws.scale} == {0.4}
    assert {draws.brightness, draws.contrast, draws.gamma} == {0.4}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "did you mean 'train.epochs'"),
        ("tran.epochs=3", "did you mean 'train'"),
        ("run.processes=2", "need coordinator = host:port"),
        ("run.process=1", "need coordinator = host:port"),
        ("train.patch_shape=3", "did you mean 'sampling.patch_shape'"),
        ("train.epochs='a'", "setting 'train.epochs' = 'a'"),
        ("train.epochs=0", "greater than or equal to 1"),
        ("train.epochs=1.5", "setting 'train.epochs'"),
        ("data.make_phantom=1", "setting 'data.make_phantom'"),
        ("data.label_source=annotator_0", "'majority', 'sample' or an annotator as in"),
        ("data.label_source=annotator_1x", "setting 'data.label_source' = 'annotator_1x'"),
        ("data.label_source=2", "setting 'data.label_source' = 2"),
        ("sampling.patch_shape=[64,64]", "setting 'sampling.patch_shape"),
        ("augment.gamma_range=[2,1]", "gamma_range must be"),
        ("preprocess.hu_range=[100,-100]", "setting 'preprocess.hu_range'"),
        ("preprocess.hu_range=[-1024]", "must be two numbers, low < high, or []"),
        ("preprocess.normalize=percentiles", "'case', 'foreground' or 'fixed'"),
        ("preprocess.normalize=fixed", "must be [low, high, mean, deviation] in HU"),
        ("preprocess.intensities=[-79,304,101,77]", 'must be [] with normalize = "case"'),
        ("labels.names=liver", "setting 'labels.names' = 'liver': write a list, such as [1, 2]"),
        ("labels.evaluation=3", "setting 'labels.evaluation' = 3: write a table, such as {name"),
        ("labels.evaluation={a=3}", "setting 'labels.evaluation.a' = 3: write a table, such as"),
        ("labels.names=['liver','Liver']", "a name of its own"),
        ("labels.names=['background']", "other than background"),
        ("labels.names=['liver','Ignore']", "leave it out, and write labels.ignore = true"),
        ("labels.names=[' liver']", "without spaces around it"),
        ("labels.names=['']", "write printable text"),
        ("labels.colors=['red']", 'must be colors such as "#d62728"'),
        ("labels.evaluation={liver={}}", "setting 'labels.evaluation.liver.labels'"),
        ("labels.evaluation={liver={labels=[]}}", "setting 'labels.evaluation.liver.labels'"),
        ("labels.evaluation={a={labels=['a'],name='A'}}", "did you mean 'labels.evaluation.a"),
        ("labels.evaluation={' '={labels=['a']}}", "' ' is no name"),
        ("sampling.class_weights=[1,-1,1]", "setting 'sampling.class_weights"),
        ("sampling.class_weights=[0,0,0]", "at least one must be above 0"),
        ("train.ema_decay=1", "less than 1"),
        ("optimizer.learning_rate=nan", "setting 'optimizer.learning_rate'"),
        ("x=1", "write section.field=value"),
        ("train.epochs", "write section.field=value"),
    ],
)
def test_bad_override_is_one_line_with_the_path(override, message):
    with pytest.raises(InputError) as error:
        load_settings(overrides=[override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_home_is_expanded_in_paths(tmp_path, monkeypatch):
    """`--set data.root=~/kits21` reaches the command as it is, and so does what a file says."""
    monkeypatch.setenv("HOME", "/home/me")
    names = ["data.root", "data.cache", "data.split", "run.folder", "train.init_from"]
    settings = load_settings(overrides=[f"{name}=~/a" for name in names])
    for section, _, field in (name.partition(".") for name in names):
        assert getattr(getattr(settings, section), field) == "/home/me/a"
    (tmp_path / "settings.toml").write_text('[data]\nroot = "~/a"\nsplit = "b~/c"\n')
    data = load_settings(tmp_path / "settings.toml").data
    assert (data.root, data.cache, data.split) == ("/home/me/a", "", "b~/c")


def test_a_byte_order_mark_is_no_setting(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("[train]\nepochs = 3\n", encoding="utf-8-sig")
    assert load_settings(path).train.epochs == 3


def test_a_loss_without_terms_is_refused():
    with pytest.raises(InputError, match="all factors of the loss are 0"):
        load_settings(overrides=["loss.dice_weight=0", "loss.cross_entropy_weight=0"])


def test_regions_have_no_background():
    with pytest.raises(InputError, match="no region is the background"):
        load_settings(overrides=["loss.regions=true", "loss.dice_background=true"])


@pytest.mark.parametrize("source", ["majority", "sample", "annotator_1", "annotator_12"])
def test_label_sources(source):
    assert load_settings(overrides=[f"data.label_source={source}"]).data.label_source == source


def test_bad_files_are_named(tmp_path):
    broken = tmp_path / "broken.toml"
    broken.write_text("[train\n")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    flat = tmp_path / "flat.toml"
    flat.write_text("train = 3\n")
    for path in (broken, binary, flat, tmp_path / "missing.toml", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            load_settings(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train", "here: not valid TOML"),
        ("[train]\nepoch = 3", "here: .*did you mean 'train.epochs'"),
        ("epochs = 3", "here: .*did you mean 'train.epochs'"),
        ("[train]\nepochs = 0", "here: setting 'train.epochs' = 0"),
    ],
)
def test_settings_in_a_text_name_their_source(text, message):
    assert parse_settings("[train]\nepochs = 3", "here").train.epochs == 3
    with pytest.raises(InputError, match=f"^{message}") as error:
        parse_settings(text, "here")
    assert "\n" not in str(error.value)


def test_override_is_named_beside_a_file(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("[train]\nepochs = 3\n")
    assert load_settings(path, ["train.batches=5"]).train.epochs == 3
    with pytest.raises(InputError, match=r"^--set: setting 'train\.batches'"):
        load_settings(path, ["train.batches=0"])


def test_override_of_resolved_settings():
    base = load_settings(overrides=["train.epochs=7"])
    new = override_settings(base, ["predict.mirror=true"])
    assert new.predict.mirror
    assert new.train == base.train


def test_every_setting_is_described():
    for name in Settings.model_fields:
        for field, info in get_section(name).model_fields.items():
            assert info.description, f"{name}.{field} has no description"


def test_stored_settings_keep_their_meaning():
    """Older kitsjax stored other names, and did not clip HU; what it lacks has today's default."""
    old = """
[network]
heads = 3
[predict]
step = 0.25
least_kidney_ml = 1.0
[train]
accumulate = 2
"""
    assert parse_stored_settings(old, "here") == load_settings(
        overrides=["network.deep_supervision=3", "predict.step_size=0.25",
                   "predict.least_organ_ml=1.0", "train.accumulation_steps=2",
                   "preprocess.hu_range=[]"]
    )  # fmt: skip
    for text in ("", "[preprocess]\nspacing_mm = 3.0"):
        preprocess = parse_stored_settings(text, "here").preprocess
        assert (preprocess.hu_range, preprocess.normalize) == ((), "case")
    for settings in (Settings(), load_settings(overrides=["preprocess.hu_range=[-500,500]"])):
        assert parse_stored_settings(to_toml(settings), "here") == settings
    for damaged in ("network = 3", "preprocess = 3", "[train]\nepoch = 3", "[train"):
        with pytest.raises(InputError, match=r"^here: "):
            parse_stored_settings(damaged, "here")


def test_hu_range_is_of_a_12_bit_ct():
    assert Settings().preprocess.hu_range == (-1024, 3071)
    assert load_settings(overrides=["preprocess.hu_range=[]"]).preprocess.hu_range == ()


FIXED = "preprocess.normalize=fixed"
NUMBERS = "preprocess.intensities=[-79.5, 304.0, 101.0, 77.0]"


@pytest.mark.parametrize(
    "numbers",
    ["[-79, 304, 101]", "[304, -79, 101, 77]", "[-79, 304, 400, 77]", "[-79, 304, 101, 0]",
     "[-79, 304, 101, -7]", "[-79, 304, 101, 1e-3]", "[]"],
)  # fmt: skip
def test_fixed_intensities_are_four_in_order(numbers):
    """Of a deviation of a thousandth, half precision would make infinite numbers."""
    with pytest.raises(InputError, match=r"^here: setting 'preprocess\.intensities' = \(\)"):
        parse_settings('[preprocess]\nnormalize = "fixed"', "here")
    given = load_settings(overrides=[FIXED, NUMBERS]).preprocess
    assert given.intensities == (-79.5, 304.0, 101.0, 77.0)
    with pytest.raises(InputError, match=r"'preprocess\.intensities' = .*: must be \[low, high"):
        load_settings(overrides=[FIXED, f"preprocess.intensities={numbers}"])


def test_a_user_gives_no_foregrounds_intensities(tmp_path):
    """Training measures them; the settings of a model have them."""
    foreground = "preprocess.normalize=foreground"
    asked = load_settings(overrides=[foreground])
    for overrides in ([foreground, NUMBERS], [NUMBERS, foreground]):
        with pytest.raises(InputError, match="training measures them; leave them out") as error:
            load_settings(overrides=overrides)
        assert "\n" not in str(error.value)
    text = to_toml(asked).replace("intensities = []", "intensities = [-79.5, 304, 101, 77]")
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(InputError, match="training measures them"):
        load_settings(tmp_path / "settings.toml")
    stored = parse_stored_settings(text, "a model")
    assert stored.preprocess.intensities == (-79.5, 304.0, 101.0, 77.0)
    assert override_settings(stored, ["predict.mirror=true"]).preprocess == stored.preprocess


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_renamed_setting_names_the_new_one(old, new):
    """Every new name exists, and a configuration with the old one is refused with the new one."""
    section, field = new.split(".")
    assert field in get_section(section).model_fields
    with pytest.raises(InputError, match=f"'{old}' was renamed; write '{new}'"):
        load_settings(None, [f"{old}=1"])


LIVER = """
[labels]
names = ["liver", "tumor"]
lesions = ["tumor"]
ignore = true
colors = ["#000000", "#ffffff"]

[labels.evaluation.liver]
title = "Liver + Tumor"
labels = ["tumor", "liver"]

[labels.evaluation.tumor]
labels = ["tumor"]
tolerance_mm = 2.0

[loss]
regions = true

[sampling]
class_weights = [1.0, 2.0]
"""


def test_another_organ_makes_a_round_trip(tmp_path):
    (tmp_path / "liver.toml").write_text(LIVER)
    settings = load_settings(tmp_path / "liver.toml")
    assert parse_stored_settings(to_toml(settings), "here").labels == settings.labels
    scheme = choose_scheme(settings)
    assert (scheme.names, scheme.ignore) == (("background", "liver", "tumor"), 3)
    assert scheme.nested_labels == (1, 2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[1.0, 2.0]", "[1.0, 2.0, 1.0]", "sampling.class_weights = .*: .* labels liver, tumor"),
        ('["tumor", "liver"]', '["liver"]', "loss.regions = true: .* liver, tumor are no regions"),
        ('= ["tumor"]\ni', '= ["cyst"]\ni', "labels.lesions: 'cyst' is no label; .* liver, tumor"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_the_labels(tmp_path, old, new, message):
    assert old in LIVER
    (tmp_path / "liver.toml").write_text(LIVER.replace(old, new))
    with pytest.raises(InputError, match=message) as error:
        load_settings(tmp_path / "liver.toml")
    assert "\n" not in str(error.value)


def test_without_names_the_data_set_tells_them():
    """The weights of another data set's labels are checked when its scheme is known."""
    settings = load_settings(overrides=["sampling.class_weights=[1,2]"])
    with pytest.raises(InputError, match="of the labels kidney, tumor, cyst"):
        choose_scheme(settings)
    assert choose_scheme(settings, make_scheme(parse_settings(LIVER, "here").labels)).ignore == 3


def test_old_settings_with_three_weights_load():
    stored = parse_stored_settings("[sampling]\nclass_weights = [1.0, 1.0, 1.0]", "here")
    assert choose_scheme(stored) == KITS
