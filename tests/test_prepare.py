"""Preparing a data set from its settings."""

import pytest

from kitsjax.errors import InputError
from kitsjax.prepare import prepare_data
from kitsjax.settings import DataSettings, PhantomSettings, PreprocessSettings


def test_unknown_annotator_is_refused(tmp_path):
    folder = tmp_path / "case_00000"
    (folder / "segmentations").mkdir(parents=True)
    for name in ("imaging", "aggregated_MAJ_seg", "segmentations/kidney_instance-1_annotation-3"):
        (folder / f"{name}.nii.gz").touch()
    asked = DataSettings(root=str(tmp_path), label_source="annotator_9")
    with pytest.raises(InputError, match=r"no case has an annotation 9 .*another annotator"):
        prepare_data(asked, PhantomSettings(), PreprocessSettings())
