import pytest
from example_cases import DICE, block, save_case

from kitsjax.labels import CYST, KIDNEY, TUMOR


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Files of three cases: predicted tumor for tumor, kidney for cyst, and nothing for tumor."""
    folder = tmp_path_factory.mktemp("cases")
    pairs = ((TUMOR, TUMOR), (KIDNEY, CYST), (0, TUMOR))
    return {
        case_id: save_case(folder, case_id, block(predicted), block(true))
        for case_id, (predicted, true) in zip(sorted(DICE), pairs, strict=True)
    }
