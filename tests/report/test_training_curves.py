import math

from matplotlib.image import imread

from kitsjax.report.drawing import save_drawing
from kitsjax.report.training_curves import plot_training
from kitsjax.run_record import KeptEpoch


def epoch(number, **changed):
    row = {
        "epoch": number, "train_loss": 1 / number, "validation_loss": abs(number - 6) / 4 - 0.5,
        "pseudo_dice": 0.05 * number, "pseudo_dice_average": 0.04 * number,
    }  # fmt: skip
    return row | changed


def lines(axis, color):
    return [line for line in axis.get_lines() if line.get_color() == color]


def test_curves_have_the_papers_colors():
    """The curves hold the log's values: training loss blue, validation loss red, Dice green."""
    epochs = [epoch(number) for number in range(1, 11)]
    losses, scores = plot_training(epochs).figure.axes
    for axis, color, name in (
        (losses, "b", "train_loss"),
        (losses, "r", "validation_loss"),
        (scores, "g", "pseudo_dice_average"),
    ):
        (curve,) = (line for line in lines(axis, color) if len(line.get_xdata()) == 10)
        assert list(curve.get_ydata()) == [row[name] for row in epochs]


def test_lowest_validation_loss_is_marked():
    drawing = plot_training([epoch(number) for number in range(1, 11)])
    assert "lowest, −0.500, at epoch 6." in drawing.caption
    assert "highest, 0.400, at epoch 10." in drawing.caption
    (mark,) = (line for line in lines(drawing.figure.axes[0], "r") if line.get_marker() == "v")
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (6, -0.5)
    assert mark.get_label() == "lowest validation loss: epoch 6"


def test_epoch_of_the_kept_parameters_is_marked():
    """It is not always the best of the curve: not every epoch has a checkpoint."""
    kept = KeptEpoch(epoch=8, pseudo_dice_average=0.32)
    drawing = plot_training([epoch(number) for number in range(1, 11)], kept)
    assert "the parameters of epoch 8: its average is 0.320." in drawing.caption
    assert "epoch 10" not in drawing.caption
    (mark,) = (line for line in lines(drawing.figure.axes[1], "g") if line.get_marker() == "^")
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (8, 0.32)


def test_epochs_that_the_log_lacks_leave_gaps():
    drawing = plot_training([epoch(number) for number in (3, 4, 6)])
    assert "The training log lacks 3 of these epochs." in drawing.caption
    assert "epochs: 6." in drawing.caption
    (curve,) = (line for line in lines(drawing.figure.axes[0], "b") if len(line.get_xdata()) == 6)
    assert list(curve.get_xdata()) == [1, 2, 3, 4, 5, 6]
    assert [math.isnan(y) for y in curve.get_ydata()] == [True, True, False, False, True, False]
    assert "lacks" not in plot_training([epoch(1), epoch(2)]).caption


def test_caption_names_the_papers_word():
    assert "pseudo-Dice, which the paper calls composite Dice" in plot_training([epoch(1)]).caption


def test_a_single_epoch_is_visible(tmp_path):
    path = save_drawing(plot_training([epoch(1)]), tmp_path)[0]
    image = imread(path)[:520, 200:1000, :3]  # without the legend
    for channel in range(3):
        others = [c for c in range(3) if c != channel]
        assert (image[..., channel] > image[..., others].max(-1) + 0.2).sum() > 50


def test_unknown_numbers_leave_gaps():
    drawing = plot_training([epoch(1, validation_loss=math.nan), epoch(2, validation_loss=2.0)])
    assert "at epoch 2." in drawing.caption
    nothing = dict.fromkeys(("validation_loss", "pseudo_dice", "pseudo_dice_average"), math.nan)
    assert "lowest" not in plot_training([epoch(1, **nothing)]).caption


def test_without_an_epoch_the_caption_says_why():
    drawing = plot_training([])
    assert drawing.figure is None
    assert drawing.caption.endswith(".")
    assert ". " not in drawing.caption
