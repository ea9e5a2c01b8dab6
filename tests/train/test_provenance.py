import pytest

from kitsjax.errors import InputError
from kitsjax.run_record import RunRecord, write_record
from kitsjax.train.provenance import read_provenance


def test_provenance_is_of_a_finished_run(tmp_path):
    record = RunRecord(
        settings="", versions={"jax": "0.1"}, train=["a", "b"], held_out=["c"], stage="finished"
    )
    write_record(tmp_path, record)
    with pytest.raises(InputError, match="not a finished run"):
        read_provenance(tmp_path)
    (tmp_path / "summary.json").write_text('{"cases": 3}')
    found = read_provenance(tmp_path)
    assert found["versions"] == record.versions
    assert (found["split"]["train"], found["split"]["held_out"]) == (2, 1)
    assert found["scores"] == {"cases": 3}
    assert read_provenance(tmp_path / "model.safetensors") == {}
    # Another post-processing was chosen, and the summary is of the masks before.
    write_record(tmp_path, record.model_copy(update={"stage": "predicting"}))
    with pytest.raises(InputError, match="its scores are not the model's"):
        read_provenance(tmp_path)


def test_a_folder_of_a_models_name_is_not_asked(tmp_path, monkeypatch):
    """`synthetic` is the package's model, whatever the folder beside it holds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synthetic").mkdir()
    assert read_provenance("synthetic") == {}
    with pytest.raises(InputError, match="not a finished run"):
        read_provenance("./synthetic")
