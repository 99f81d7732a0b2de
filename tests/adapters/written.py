"""What is written in a figure, and whether it can be read."""

from __future__ import annotations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

Written = tuple[str, Bbox]


def texts_of(figure: Figure) -> list[Written]:
    """Text and pixel rectangle of everything that is written in a figure, labels of the ticks in view included."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    beyond = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        beyond |= {label for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high
                   for label in (tick.label1, tick.label2)}  # fmt: skip
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in texts if t not in beyond]


def assert_nothing_is_cut(figure: Figure, texts: list[Written]) -> None:
    width, height = figure.canvas.get_width_height()
    for text, box in texts:
        assert box.x0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= height + 1, text


def assert_nothing_collides(texts: list[Written]) -> None:
    for i, (text, box) in enumerate(texts):
        for other, rectangle in texts[i + 1 :]:
            overlap_x = min(box.x1, rectangle.x1) - max(box.x0, rectangle.x0)
            overlap_y = min(box.y1, rectangle.y1) - max(box.y0, rectangle.y0)
            assert min(overlap_x, overlap_y) < 1.5, (text, other)
