"""Schemes from the settings in [labels]: KiTS's by default, and any other by name."""

from dataclasses import replace

import pytest

from kitsjax.errors import InputError
from kitsjax.labels import KITS
from kitsjax.make_scheme import describe_scheme, make_scheme
from kitsjax.settings import EvaluationSettings, LabelSettings

LIVER = make_scheme(LabelSettings(names=("liver", "tumor"), lesions=("tumor",)))


def test_the_default_is_kits():
    assert make_scheme(LabelSettings()) == KITS
    assert describe_scheme(KITS) == LabelSettings()


def test_names_alone_score_each_label_and_all():
    scheme = make_scheme(LabelSettings(names=("left_kidney", "spleen")))
    found = [(each.key, each.title, each.labels) for each in scheme.evaluation]
    assert found == [
        ("foreground", "All labels", (1, 2)),
        ("left_kidney", "Left kidney", (1,)),
        ("spleen", "Spleen", (2,)),
    ]
    assert {each.tolerance_mm for each in scheme.evaluation} == {1.0}
    assert (scheme.lesions, scheme.ignore, scheme.codes) == ((), None, ())


def test_one_label_is_one_class():
    assert make_scheme(LabelSettings(names=("liver",))).evaluation_keys == ("liver",)


def test_classes_and_lesions_go_by_name():
    classes = {
        "whole": EvaluationSettings(title="Liver + Tumor", labels=("tumor", "liver")),
        "tumor": EvaluationSettings(labels=("tumor",), tolerance_mm=2.0),
    }
    scheme = make_scheme(
        LabelSettings(names=("liver", "tumor"), lesions=("tumor",), evaluation=classes, ignore=True)
    )
    assert scheme.find_class("whole").labels == (1, 2)
    assert scheme.titles == {"whole": "Liver + Tumor", "tumor": "Tumor"}
    assert scheme.find_class("tumor").tolerance_mm == 2.0
    assert (scheme.lesions, scheme.ignore, scheme.values) == ((2,), 3, (0, 1, 2, 3))


def test_without_names_the_own_scheme_is_changed():
    scheme = make_scheme(LabelSettings(lesions=("tumor",), ignore=True))
    assert scheme == replace(KITS, lesions=(2,), ignore=4)
    assert make_scheme(LabelSettings(ignore=True), LIVER) == replace(LIVER, ignore=3)


@pytest.mark.parametrize(
    "scheme", [LIVER, KITS, replace(LIVER, ignore=3), replace(KITS, ignore=4, lesions=(2,))]
)
def test_a_described_scheme_needs_no_data_set(scheme):
    assert make_scheme(describe_scheme(scheme)) == scheme


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lesions": ("tumour",)}, "labels.lesions: 'tumour' is no label; the labels are kidney"),
        ({"names": ("liver",), "colors": ("#000000", "#ffffff")}, "2 colors for 1 labels"),
        (
            {"evaluation": {"mass": EvaluationSettings(labels=("mass",))}},
            "labels.evaluation.mass.labels: 'mass' is no label",
        ),
    ],
)
def test_what_does_not_fit_is_named(settings, message):
    with pytest.raises(InputError, match=message) as error:
        make_scheme(LabelSettings(**settings))
    assert "\n" not in str(error.value)


def test_a_label_may_be_called_foreground():
    scheme = make_scheme(LabelSettings(names=("a", "foreground", "foreground_")))
    assert scheme.evaluation_keys == ("foreground__", "a", "foreground", "foreground_")
    assert scheme.evaluation[0].labels == (1, 2, 3)
    assert make_scheme(describe_scheme(scheme)) == scheme
