"""Label schemes of other organs than kidneys, for tests of everything that takes a scheme."""

from kitsjax.labels import EvaluationClass, LabelScheme


def single_classes(names, tolerance_mm=1.0):
    """A class for each label, with its name."""
    return tuple(
        EvaluationClass(name.replace(" ", "_"), name.title(), (value,), tolerance_mm)
        for value, name in enumerate(names, 1)
    )


LIVER = LabelScheme(
    ("background", "liver", "tumor", "vessel"),
    (
        EvaluationClass("liver_and_all", "Liver + All", (1, 2, 3), 2.0),
        EvaluationClass("tumor", "Tumor", (2,), 1.5),
        EvaluationClass("vessel", "Vessel", (3,), 1.0),
    ),
    lesions=(2,),
    ignore=4,
)
"""Three labels of which one is a lesion, and an ignore value."""

SPLEEN = LabelScheme(("background", "spleen"), single_classes(["spleen"]))
"""One label, and no lesions."""

ORGAN_NAMES = (
    "aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach",
    "left adrenal gland", "right adrenal gland",
)  # fmt: skip
ORGANS = LabelScheme(("background", *ORGAN_NAMES), single_classes(ORGAN_NAMES))
"""Ten labels, and no lesions."""

LESIONS = LabelScheme(
    ("background", "lung", "nodule", "metastasis", "cyst"),
    (
        EvaluationClass("lung", "Lung", (1, 2, 3, 4), 1.0),
        EvaluationClass("lesion", "Lesions", (2, 3, 4), 1.0),
    ),
    lesions=(2, 3, 4),
)
"""Three kinds of lesions without a class of their own."""
