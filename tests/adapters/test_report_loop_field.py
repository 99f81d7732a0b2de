"""The page of the loop says what models are worth in the field, and whose images got a week's labels."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from test_allocation_plot import an_allocation
from test_report_field import REFUSED, known

from tasks.adapters import report
from tasks.adapters.report.in_the_field import field_bars, field_plainly
from tasks.adapters.report.shared_out import allocation_sentence
from tasks.core.field import FieldFigures
from tests.adapters.report_figures import told


def page_of(tmp_path, **fields) -> tuple[str, str]:
    """The page and what a reader sees of it."""
    page = report.loop_page(replace(told(1), **fields), tmp_path / "loop.html").read_text()
    body = page.partition("<body>")[2]
    return page, re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_field_figures_are_said_of_a_hundred_objects():
    """Found, missed, right, and what that rests on; what is not known is said to be so, and why nothing is."""
    assert field_plainly(known()) == [
        "Of 100 objects that the cameras saw the model finds about 87, and misses 13. Of 100 boxes that it reports "
        "about 50 are right.",
        "That rests on 150 labelled images, which stand for 20,500 frames. Some count for far more frames than others, "
        "so that they are worth no more than 62 drawn at random from all frames.",
    ]
    empty = known(figures=FieldFigures(images=1, effective_images=1.0), frames=10.0)
    assert field_plainly(empty)[0] == (
        "No object is in the labelled images, so nobody can say how many the model finds."
    )
    assert field_plainly(REFUSED) == ["There is no figure: nobody knows why."]
    assert field_bars(empty) == field_bars(REFUSED) == []
    found, right = field_bars(known())
    assert (found["text"], right["text"]) == ("87% (80 to 93)", "50% (40 to 60)")
    assert (found["low"], found["width"], found["value"]) == pytest.approx((80, 13, 87))


@pytest.mark.slow
def test_the_page_of_a_run_has_the_field(tmp_path):
    """A section with sentence, bar and table for what is known, a reason for what is not, and none where none asked."""
    page, text = page_of(
        tmp_path, field=(known(cameras={"pi/<b>": known().figures, "pi/yard": known().figures}), REFUSED)
    )
    assert "<h2>In the field</h2>" in page
    assert "Of 100 objects that the cameras saw the model finds about 87, and misses 13." in text
    assert "There is no figure: nobody knows why." in text
    assert "pi/&lt;b&gt;" in page
    assert re.search(r'<i style="left:80\.0%;width:13\.0+\d*%"></i><s style="left:87\.0%"></s>', page)
    _, text = page_of(tmp_path, field_missing="no image is labelled yet")
    assert "In the field" in text
    assert "There is no figure: no image is labelled yet." in text
    assert "In the field" not in page_of(tmp_path)[1]


@pytest.mark.slow
def test_the_page_of_a_run_has_the_allocation_where_there_is_one(tmp_path):
    """The picture as data, a sentence that adds up, and the reason of every cell."""
    made = an_allocation()
    page, text = page_of(tmp_path, allocation=made.model_copy(update={"warnings": ("few labels",)}))
    assert "Which images get the labels" in text
    assert "100 labels are planned: 12 for images that chance alone chose, 88 for what 3 groups of camera" in text
    assert "Few labels." in text
    for cell in made.cells:
        assert re.sub(r"\s+", " ", cell.reason).replace("'", "&#39;") in text
    assert page.count("data:image/png;base64,") == page_of(tmp_path)[0].count("data:image/png;base64,") + 1
    assert "Which images get the labels" not in page_of(tmp_path)[1]


def test_an_allocation_is_said_as_what_it_is():
    """Drawn or planned; equal shares where nobody has corrected anything."""
    made = an_allocation()
    drawn = made.model_copy(update={"drawn_from": ("batch-1",), "mean_yield": None})
    assert "100 labels were drawn: 12 for images" in allocation_sentence(drawn)
    assert allocation_sentence(drawn).endswith("so all groups have an equal share.")
    assert "Groups in which people corrected more for their work get more" in allocation_sentence(made)
