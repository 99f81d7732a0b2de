"""What is said of a model in the field: sentences, rows, the terminal's table and the part of the page."""

from __future__ import annotations

import io
from datetime import datetime, timezone

from rich.console import Console

from tasks.adapters.report.in_the_field import field_rows, field_sentence, field_summary, field_title, field_values
from tasks.adapters.report.pages import render
from tasks.core.entities import Estimate
from tasks.core.field import FieldFigures, FieldRecall

MAY = datetime(2026, 5, 1, tzinfo=timezone.utc)
POOLED = FieldFigures(
    recall=Estimate(value=0.87, low=0.8, high=0.93), precision=Estimate(value=0.5, low=0.4, high=0.6),
    images=150, effective_images=61.6, largest_weight=0.02, objects=1200, misses=300, detections=1000,
)  # fmt: skip
REFUSED = FieldRecall(model_version="ab" * 8, settings_version="all/1", refused="nobody knows why")


def known(**fields) -> FieldRecall:
    given = {
        "model_version": "ab" * 8, "settings_version": "all/2", "first": MAY, "last": MAY.replace(day=9),
        "labelled": 150, "frames": 20500.4, "figures": POOLED, "classes": {"car": POOLED, "bus": FieldFigures()},
        "cameras": {"pi/gate": POOLED, "pi/yard": POOLED}, "warnings": ("few images",), **fields,
    }  # fmt: skip
    return FieldRecall(**given)


def test_the_sentence_has_the_figures_their_intervals_and_what_they_rest_on():
    """Or what is not known, or why there is nothing."""
    assert field_sentence(known()) == (
        "It finds 87% (80 to 93) of the objects in all frames, and 50% (40 to 60) of what it reports is right. That "
        "rests on 150 labelled images, which stand for 20,500 frames and say as much as 62 images drawn at random "
        "would."
    )
    empty = known(figures=FieldFigures(images=1, effective_images=1.0), frames=10.0)
    assert field_sentence(empty) == (
        "No object is in the labelled images, so recall is not known. That rests on 1 labelled image, which stands for "
        "10 frames and says as much as 1 image drawn at random would."
    )
    assert field_sentence(REFUSED) == "There is no figure: nobody knows why."


def test_titles_name_versions_and_days():
    """One day, several, or none where there are no figures."""
    assert field_title(known()) == f"model {'ab' * 8}, settings all/2, 2026-05-01 to 2026-05-09"
    assert field_title(known(last=MAY)) == f"model {'ab' * 8}, settings all/2, 2026-05-01"
    assert field_title(REFUSED) == f"model {'ab' * 8}, settings all/1"


def test_rows_are_all_then_classes_that_were_seen_then_cameras():
    """A class without an image has no row, and a single camera is no news."""
    assert [row[0] for row in field_rows(known())] == ["all", "car", "pi/gate", "pi/yard"]
    assert [row[0] for row in field_rows(known(cameras={"pi/gate": POOLED}))] == ["all", "car"]
    assert field_rows(known())[0] == ("all", "87% (80 to 93)", "50% (40 to 60)", "150", "62", "1,200", "300")
    assert field_rows(REFUSED) == []


def test_the_terminal_shows_both_and_nothing_that_moves_its_cursor():
    """Names come from devices: control characters in them do not reach the terminal."""
    evil = known(cameras={"pi/\x1b[2J": POOLED, "pi/yard": POOLED})
    out = io.StringIO()
    Console(file=out, width=120).print(field_summary([evil, REFUSED]))
    text = out.getvalue()
    assert "\x1b" not in text
    assert "Model abababababababab, settings all/2" in text
    assert "- few images" in text
    assert "There is no figure: nobody knows why." in text


def test_the_page_has_a_section_only_where_something_is_known():
    """Names are escaped; a refusal has a sentence and no table."""
    page = rendered([known(cameras={"pi/<b>": POOLED, "pi/yard": POOLED}), REFUSED])
    assert page.count("<table>") == 1
    assert "<h2>In the field</h2>" in page
    assert "pi/&lt;b&gt;" in page
    assert "Few images." in page
    assert rendered([]).strip() == ""


def rendered(found) -> str:
    return render("field.html", field=field_values(found))
