"""What the tests of adapters share: the figures of the plots that were drawn, and a model that sees two boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # most of these tests draw nothing
    from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved, newest last."""
    from tasks.adapters.report import style

    figures: list[Figure] = []
    save = style.Figure.savefig

    def keep(figure, *args, **options):
        figures.append(figure)
        return save(figure, *args, **options)

    monkeypatch.setattr(style.Figure, "savefig", keep)
    return figures


@pytest.fixture
def two_boxes(tmp_path: Path) -> Path:
    """A car in the middle at 0.9 and a dog in the upper left quarter at 0.3."""
    from tests.adapters.models import constant_model, saved, ultralytics_output

    output = ultralytics_output([((32, 32, 16, 8), (0.9, 0.1)), ((16, 16, 32, 32), (0.02, 0.3))], classes=2)
    return saved(constant_model(output, names=("car", "dog")), tmp_path)
