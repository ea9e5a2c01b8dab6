"""Label schemes: KiTS's own, and the checks of any other."""

from dataclasses import replace

import pytest

from kitsjax.labels import CYST, KIDNEY, KITS, TUMOR, EvaluationClass, LabelScheme

LIVER = LabelScheme(
    names=("background", "liver", "tumor"),
    evaluation=(EvaluationClass("liver", "Liver", (1, 2), 1.0),),
)


def test_kits_is_as_published():
    assert [KITS.names[v] for v in (KIDNEY, TUMOR, CYST)] == ["kidney", "tumor", "cyst"]
    assert KITS.find_class("mass").labels == (TUMOR, CYST)
    assert KITS.find_class("tumor").tolerance_mm == pytest.approx(1.1498198)
    assert KITS.evaluation_keys == ("kidney_and_mass", "mass", "tumor")
    assert KITS.ignore is None
    assert KITS.values == (0, 1, 2, 3)


def test_a_scheme_fills_in_what_is_not_given():
    assert LIVER.foreground == LIVER.paint_order == (1, 2)
    assert len(set(LIVER.colors)) == 2
    assert LIVER.color(1) == LIVER.colors[0]
    assert hash(LIVER) == hash(replace(LIVER))
    assert LIVER != KITS


def test_the_ignore_value_follows_the_labels():
    assert replace(LIVER, ignore=3).values == (0, 1, 2, 3)
    assert replace(LIVER, ignore=3).foreground == (1, 2)


def test_an_unknown_class_is_a_key_error():
    with pytest.raises(KeyError, match="spleen"):
        LIVER.find_class("spleen")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"names": ("background",)}, "a label at least"),
        ({"names": ("background", "liver", "liver")}, "a name of its own"),
        ({"names": ("background", *map(str, range(300)))}, "too many"),
        ({"evaluation": ()}, "different keys"),
        ({"evaluation": LIVER.evaluation * 2}, "different keys"),
        ({"evaluation": (EvaluationClass("a", "A", (0, 1), 1.0),)}, "not a union"),
        ({"evaluation": (EvaluationClass("a", "A", (1,), 0.0),)}, "above 0 mm"),
        ({"lesions": (3,)}, "lesions"),
        ({"ignore": 2}, "must be 3"),
        ({"ignore": 255}, "must be 3"),
        ({"paint_order": (1,)}, "once"),
        ({"colors": ("#ffffff",)}, "one for each"),
        ({"codes": KITS.codes}, "one for each"),
    ],
)
def test_contradictions_are_refused(changes, problem):
    fields = {"colors": ()} | {"paint_order": ()} | changes
    with pytest.raises(ValueError, match=problem):
        replace(LIVER, **fields)


@pytest.mark.parametrize(
    ("unions", "own"),
    [
        (((1, 2), (2,)), (1, 2)),
        (((1, 2), (1,)), (2, 1)),
        (((1, 2),), ()),
        (((1, 2), (1,), (2,)), ()),
        (((2,), (1, 2)), ()),
        (((1,), (1,)), ()),
    ],
)
def test_nested_classes_lose_one_label_each(unions, own):
    classes = tuple(EvaluationClass(str(n), "", union, 1.0) for n, union in enumerate(unions))
    assert replace(LIVER, evaluation=classes).nested_labels == own
    assert KITS.nested_labels == (KIDNEY, CYST, TUMOR)
