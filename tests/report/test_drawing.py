import numpy as np
import pytest
from example_scores import random_evaluation
from matplotlib.image import imread

from kitsjax.errors import InputError
from kitsjax.report.charts import plot_sensitivity
from kitsjax.report.drawing import Drawing, new_figure, save_drawing


def make_drawing(figure):
    return Drawing("spot", "Spot", "A spot.", figure)


def test_equal_drawings_are_equal_bytes(tmp_path):
    files = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        written = save_drawing(plot_sensitivity(random_evaluation(20)), folder)
        assert [path.name for path in written] == [
            "figure_7_sensitivity.png", "figure_7_sensitivity.pdf"
        ]  # fmt: skip
        files.append([path.read_bytes() for path in written])
    assert files[0] == files[1]
    assert b"CreationDate" not in files[0][1]


def test_without_a_figure_old_files_are_removed(tmp_path):
    assert len(save_drawing(make_drawing(new_figure(3, 2)), tmp_path)) == 2
    assert save_drawing(make_drawing(None), tmp_path) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("figure", [None, new_figure(3, 2)])
def test_a_folder_named_as_a_figure_is_an_error(figure, tmp_path):
    (tmp_path / "spot.png").mkdir()
    with pytest.raises(InputError, match=r"spot\.png: cannot "):
        save_drawing(make_drawing(figure), tmp_path)


def test_a_png_keeps_white_and_a_small_spots_hue(tmp_path):
    figure = new_figure(3, 2)
    axis = figure.add_subplot()
    noise = np.random.default_rng(0).random((200, 300, 1)).repeat(3, axis=2)
    noise[:100, :, 0] = 1  # half of it reddish
    noise[150:153, 150:153] = (0, 0.2, 0.9)
    axis.imshow(noise)
    image = imread(save_drawing(make_drawing(figure), tmp_path)[0])
    assert (image[0, 0, :3] == 1).all()
    blue = (image[..., 2] > 0.7) & (image[..., 0] < 0.25) & (image[..., 1] < 0.4)
    assert blue.sum() >= 4
