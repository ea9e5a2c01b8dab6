import numpy as np
from matplotlib.image import imread

from kitsjax.evaluate.figures import Slice, draw_progress, draw_segmentations


def epoch(number):
    return {
        "epoch": number, "train_loss": 1 / number, "validation_loss": 1.2 / number,
        "dice": 0.5, "dice_average": 0.4,
    }  # fmt: skip


def colored(image, channel, margin=0.2):
    """Pixels in which one channel is above both others by a margin."""
    others = [c for c in range(3) if c != channel]
    return int((image[..., channel] > image[..., others].max(-1) + margin).sum())


def test_progress_draws_three_colored_curves(tmp_path):
    draw_progress([epoch(n) for n in range(1, 9)], tmp_path / "progress.png")
    image = imread(tmp_path / "progress.png")
    assert all(colored(image, channel) > 500 for channel in range(3))


def test_progress_of_a_single_epoch_is_visible(tmp_path):
    draw_progress([epoch(1)], tmp_path / "progress.png")
    image = imread(tmp_path / "progress.png")
    assert all(colored(image, channel) > 100 for channel in range(3))


def test_segmentation_colors_are_those_of_the_labels(tmp_path):
    def draw(value):
        label = np.zeros((40, 60), np.uint8)
        label[10:30, 10:40] = value
        shown = Slice("case", np.zeros((40, 60)), label, np.zeros_like(label), (1.0, 1.0))
        draw_segmentations([shown], tmp_path / "slices.png")
        image = imread(tmp_path / "slices.png")
        half = image.shape[0] // 2
        return [[colored(part, c, 0.04) for c in range(3)] for part in (image[:half], image[half:])]

    for value, channel in ((1, 0), (2, 1), (3, 2)):
        above, below = draw(value)
        assert above[channel] > 5000
        assert sum(above) == above[channel]
        assert sum(below) == 0, "the truth is empty here"
