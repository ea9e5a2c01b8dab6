import re
import sys

from benchmarks import way_back


def test_both_ways_are_scored(monkeypatch, capsys):
    """From voxels larger than the CT's, interpolation finds the surface better."""
    arguments = ["way_back", "--cases", "1", "--matrix", "96", "--spacing", "6"]
    monkeypatch.setattr(sys, "argv", arguments)
    way_back.main()
    _, label, probability = capsys.readouterr().out.splitlines()
    for line, name in ((label, "label"), (probability, "probability")):
        assert line.startswith(f"| 6 mm, {name} |")
    scores = [[float(n) for n in re.findall(r"\d\.\d{3}", line)] for line in (label, probability)]
    assert len(scores[0]) == 6
    assert 0.5 < scores[0][0] < scores[1][0] < 1
    assert 0.2 < scores[0][1] < scores[1][1] < 1
