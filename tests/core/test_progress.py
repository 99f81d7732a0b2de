"""How far people are with a batch: figures against a slow count, ends, reminders, and an interval that holds."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.entities import Label, LabelBox
from tasks.core.people.ending import Conditions, ended, expected_end, reminders_due
from tasks.core.people.progress import Progress, Work, first_answers, progress_of
from tasks.core.people.words import day_bars, headline, markdown_of
from tasks.core.settings import LabellingSettings

OFFERED = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
NOW = OFFERED + timedelta(days=9)
DAY = timedelta(days=1)
BOX = LabelBox(class_name="car", xyxy=(1, 1, 9, 9))


def a_label(image: str, at: datetime = OFFERED + DAY, **fields) -> Label:
    return Label(**{"sample_id": image, "annotator": "ann", "labelled_at": at, **fields})


def figures(offered, labels, now=NOW, conditions=None, first=None) -> Progress:
    work = Work("b", offered, OFFERED, labels, first_answers({}, labels) if first is None else first)
    return progress_of(work, conditions or Conditions(), now, np.random.default_rng(0))


def hours(low, high):
    return st.integers(low, high).map(lambda n: OFFERED + timedelta(hours=n))


LABELS = st.lists(
    st.builds(
        Label,
        sample_id=st.sampled_from("abcdefgh"),
        status=st.sampled_from(["done", "skipped"]),
        boxes=st.lists(st.just(BOX), max_size=3).map(tuple),
        annotator=st.sampled_from(["ann", "bob"]),
        labelled_at=hours(-50, 300),
        corrections=st.integers(0, 3),
        reason=st.sampled_from(["", "dark"]),
        lead_seconds=st.none() | st.integers(0, 90),
    ),
    max_size=14,
    unique_by=lambda label: (label.sample_id, label.annotator),
)


@given(labels=LABELS, offered=st.sets(st.sampled_from("abcdefgh")))
def test_figures_are_those_of_a_slow_count(labels, offered):
    """Images, reasons, days and people, one image after the other, with every time between the offer and now."""
    found = figures(sorted(offered), labels)
    done, skipped, days = 0, 0, {}
    for image in offered:
        said = [label for label in labels if label.sample_id == image]
        if not said:
            continue
        if any(label.status == "done" for label in said):
            done += 1
        else:
            skipped += 1
        first = min(max(min(label.labelled_at for label in said), OFFERED), NOW).date()
        days[first] = days.get(first, 0) + 1
    assert (found.done, found.skipped, found.offered) == (done, skipped, len(offered))
    assert sum(found.reasons.values()) == skipped
    assert {day.day: day.images for day in found.days if day.images} == days
    assert [day.day for day in found.days] == sorted({day.day for day in found.days})
    ours = [label for label in labels if label.sample_id in offered]
    assert sum(row.images + row.skipped for row in found.annotators) == len(ours)
    assert sum(row.boxes for row in found.annotators) == sum(len(label.boxes) for label in ours)
    for row in found.annotators:
        leads = sorted(
            label.lead_seconds for label in ours if label.annotator == row.annotator and label.lead_seconds is not None
        )
        middle = (leads[(len(leads) - 1) // 2] + leads[len(leads) // 2]) / 2 if leads else None
        assert row.median_lead_seconds == middle
    assert found == figures(sorted(offered), labels[::-1])


def test_a_correction_moves_no_image_to_another_day():
    """An image counts for the day of its first revision, also when it is labelled anew a week later."""
    first = first_answers({}, [a_label("a", OFFERED + DAY)])
    first = first_answers(first, [a_label("a", OFFERED + 8 * DAY)])
    found = figures(["a"], [a_label("a", OFFERED + 8 * DAY)], first=first)
    assert [str(day.day) for day in found.days] == ["2026-05-02"]
    assert found.last_at == OFFERED + 8 * DAY


def test_clocks_that_disagree_are_clipped_and_told():
    """Labels of tomorrow count as of now, labels from before the offer as of the offer; each is one line."""
    found = figures(["a", "b"], [a_label("a", NOW + 3 * DAY), a_label("b", OFFERED - 5 * DAY)])
    assert [day.images for day in found.days] == [1, *([0] * 8), 1]
    assert found.last_at == NOW
    assert [line.split(":")[0] for line in found.warnings] == [
        "1 labels say that they were made in the future, by up to 3 days",
        "1 labels say that they were made before the batch was offered, by up to 5 days",
    ]
    assert figures(["a"], [a_label("a", NOW + timedelta(seconds=30))]).warnings == ()


@pytest.mark.parametrize(
    ("conditions", "now", "words"),
    [
        (Conditions(), NOW, ""),
        (Conditions(done_share=0.7), NOW, "7 of 10 images are labelled or skipped, the share of 0.7 asked for"),
        (Conditions(done_share=0.71), NOW, ""),
        (Conditions(done_images=6), NOW, "6 images are labelled, as many as were asked for"),
        (Conditions(done_images=7), NOW, ""),
        (Conditions(deadline=NOW), NOW, "its deadline of 2026-05-10 12:00 UTC has passed with 7 of 10 images answered"),
        (Conditions(deadline=NOW), NOW - timedelta(seconds=1), ""),
        (Conditions(closed="closed by eve: enough"), NOW, "closed by eve: enough"),
    ],
)
def test_a_batch_ends_by_share_count_deadline_or_hand(conditions, now, words):
    """6 of 10 images are labelled and one is skipped; a skip is an answer, and no label."""
    labels = [a_label(image, status="skipped" if image == "g" else "done") for image in "abcdefg"]
    assert ended(figures(list("abcdefghij"), labels, now, conditions), conditions, now) == words


def test_a_batch_of_which_nothing_could_be_offered_has_ended():
    """There is nothing to wait for, and nothing is divided by it."""
    assert "none of its images" in ended(figures([], []), Conditions(), NOW)
    assert figures([], []).share == 1


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 100))
def test_the_share_needs_as_many_images_as_it_says(offered, answered, percent):
    """In whole images, without rounding errors, and never more than there are."""
    needed = Conditions(done_share=percent / 100).needed(offered)
    assert (answered >= needed) == (answered * 100 >= percent * offered)


def test_below_two_days_there_is_no_idea_of_the_end():
    """Nobody has begun; a day and a half of labels; a week of silence: each in its own words, none with a date."""
    images = [f"i{n}" for n in range(50)]
    assert figures(images, []).outlook == "nobody has begun"
    fresh = figures(images, [a_label(image, NOW - timedelta(hours=n)) for n, image in enumerate(images[:36])])
    assert fresh.expected is None
    assert fresh.outlook == "no idea yet: people began less than 2 days ago"
    silent = figures(images, [a_label("i1", OFFERED + DAY)])
    assert silent.outlook == "no end in sight: nothing was labelled in the last 7 days"
    limited = figures(images, [], conditions=Conditions.of(LabellingSettings(deadline_days=10), OFFERED))
    assert limited.outlook == "nobody has begun; the deadline is 2026-05-11 12:00 UTC"


@pytest.mark.parametrize("spread", [1.0, 6.0])
@pytest.mark.parametrize("known", [3, 7])
def test_the_interval_of_the_end_holds_the_true_end(known, spread):
    """Simulated people, days alike or very different: the 95% interval holds at least 88% of the true ends."""
    rng = np.random.default_rng(5)
    held = 0
    for trial in range(200):
        shape = 20 / (spread - 1) if spread > 1 else np.inf
        rates = np.full(400, 20.0) if spread == 1 else rng.gamma(shape, 20 / shape, 400)
        times = np.concatenate([day + np.sort(rng.random(rng.poisson(rate))) for day, rate in enumerate(rates)])
        now = OFFERED + known * DAY + timedelta(hours=1)
        seen = [OFFERED + float(t) * DAY for t in times if OFFERED + float(t) * DAY <= now]
        seen[0] = OFFERED
        end = OFFERED + float(times[len(seen) + 119]) * DAY
        found = expected_end(seen, 120, now, np.random.default_rng(trial))
        assert found is not None
        held += found.low <= end and (found.high is None or end <= found.high)
    assert held >= 176


@given(st.lists(hours(-20, 216), min_size=1, max_size=40), st.integers(1, 10**6))
def test_an_expected_end_is_an_ordered_interval_after_now(answers, left):
    """Whatever the answers are, and however much is left: no error, no date before now."""
    found = expected_end([min(answer, NOW) for answer in answers], left, NOW, np.random.default_rng(1))
    dates = [] if found is None else [date for date in (found.low, found.middle, found.high) if date]
    assert dates == sorted(dates)
    assert all(date >= NOW - timedelta(milliseconds=1) for date in dates)


def test_reminders_come_once_a_silence_and_near_the_deadline():
    """Names repeat within one span of silence, are new for the next, and start over with a new label."""
    conditions = Conditions.of(LabellingSettings(deadline_days=10), OFFERED)
    quiet = figures(["a", "b"], [])

    def names(progress, days):
        return [due.name for due in reminders_due(progress, conditions, 3.0, OFFERED + days * DAY)]

    assert names(quiet, 2.9) == []
    assert names(quiet, 3.1) == names(quiet, 5.9) == ["idle-20260501-120000-1"]
    assert names(quiet, 6.5) == ["idle-20260501-120000-2"]
    assert names(quiet, 8.2) == ["idle-20260501-120000-2", "deadline"]
    assert names(quiet, 10) == ["idle-20260501-120000-3"]
    assert names(figures(["a", "b"], [a_label("a", OFFERED + 7 * DAY)]), 8.2) == ["deadline"]
    assert reminders_due(quiet, Conditions(), None, NOW) == []


def test_what_people_write_is_shown_and_not_obeyed():
    """A name or a reason with markup, a table's bar or a line break stays text in its place."""
    name = "<img src=x>|`eve`\n# [x](http://y)"
    page = markdown_of(figures(["a"], [a_label("a", annotator=name, status="skipped", reason=name)]))
    assert not any(line.startswith("# [") for line in page.splitlines())
    assert "\n# \\[" not in page
    assert "\\<img src=x\\>\\|\\`eve\\` \\# \\[x\\]\\(http://y\\)" in page


def test_bars_are_in_proportion_and_days_without_work_are_shown():
    """The busiest day is the whole width, half of it half the width, none of it nothing; the headline says the rest."""
    labels = [a_label(f"i{n}", OFFERED + (1 if n < 8 else 3) * DAY) for n in range(12)]
    found = figures([f"i{n}" for n in range(20)], labels)
    assert [line.count("█") for line in day_bars(found.days, 10)] == [10, 0, 5]
    assert headline(found).startswith("12 of 20 images labelled (60%); expected end: ")
    assert headline(found, "closed by eve").endswith("(60%); ended: closed by eve")
