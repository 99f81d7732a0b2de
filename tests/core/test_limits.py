"""Credits count in calendar windows of the capture time, and batches are named by it."""

import json
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.limits import (
    FORMER_STRATEGIES,
    REMEMBERED_WINDOWS,
    Credits,
    RecentCounts,
    batch_name,
    windows_of,
)
from tasks.core.settings import BatchingStrategy, Limit

NOON = datetime(2026, 1, 5, 12, 0, 0, tzinfo=timezone.utc)


def limits(**values):
    return [Limit(type=kind, value=value) for kind, value in values.items()]


@pytest.mark.parametrize(
    ("interval", "day", "name"),
    [
        ("never", "2026-01-05", "parts"),
        ("daily", "2026-01-05", "parts_2026_01_05"),
        ("daily", "2024-02-29", "parts_2024_02_29"),
        ("weekly", "2026-01-05", "parts_2026_01_05"),  # a Monday
        ("weekly", "2026-01-11", "parts_2026_01_05"),  # the Sunday after
        ("weekly", "2026-01-12", "parts_2026_01_12"),
        ("weekly", "2026-01-01", "parts_2025_12_29"),  # its Monday lies in the year before
        ("weekly", "2024-03-03", "parts_2024_02_26"),
        ("monthly", "2026-01-01", "parts_2026_01_01"),
        ("monthly", "2026-01-31", "parts_2026_01_01"),
        ("monthly", "2024-02-29", "parts_2024_02_01"),
        ("monthly", "2025-12-31", "parts_2025_12_01"),
    ],
)
@pytest.mark.parametrize("clock", ["00:00:00.000", "23:59:59.999"])
def test_a_batch_is_named_by_the_first_day_of_its_interval(interval, day, clock, name):
    """Today, Monday or the 1st, at the first and the last millisecond of a day."""
    batching = BatchingStrategy(batches_name_prefix="parts", recreation_interval=interval)
    assert batch_name(batching, datetime.fromisoformat(f"{day}T{clock}+00:00")) == name


def test_windows_are_those_of_the_calendar():
    """12:59:59.999 and 13:00:00.000 share a day, and neither hour nor minute."""
    late, later = windows_of(NOON + timedelta(seconds=3599, milliseconds=999)), windows_of(NOON + timedelta(hours=1))
    assert late == {"minutely": "2026-01-05T12:59", "hourly": "2026-01-05T12", "daily": "2026-01-05"}
    assert later == {"minutely": "2026-01-05T13:00", "hourly": "2026-01-05T13", "daily": "2026-01-05"}


@pytest.mark.parametrize(
    ("configured", "charged", "exhausted"),
    [
        ({}, 99, None),
        ({"minutely": 3}, 2, None),
        ({"minutely": 3}, 3, "minutely"),
        ({"minutely": 3}, 4, "minutely"),
        ({"minutely": 9, "hourly": 3}, 3, "hourly"),
        ({"minutely": 9, "hourly": 9, "daily": 3}, 3, "daily"),
        ({"hourly": 0}, 0, "hourly"),
    ],
)
def test_a_strategy_has_room_while_every_limit_has(configured, charged, exhausted):
    """Used is compared with the value, and the first limit without room is named."""
    credits = Credits(["hard"])
    for _ in range(charged):
        credits.charge("hard", windows_of(NOON))
        credits.charge("other", windows_of(NOON))
    limit = credits.exhausted("hard", limits(**configured), windows_of(NOON))
    assert (limit.type if limit else None) == exhausted


def test_a_limit_frees_at_the_next_window():
    """The next minute has room again under the minute's limit, and not yet under the hour's."""
    credits = Credits(["hard"])
    credits.charge("hard", windows_of(NOON))
    next_minute, next_hour = windows_of(NOON + timedelta(minutes=1)), windows_of(NOON + timedelta(hours=1))
    assert credits.exhausted("hard", limits(minutely=1), windows_of(NOON + timedelta(seconds=59.999)))
    assert not credits.exhausted("hard", limits(minutely=1), next_minute)
    assert credits.exhausted("hard", limits(hourly=1), next_minute)
    assert not credits.exhausted("hard", limits(hourly=1), next_hour)
    assert credits.exhausted("hard", limits(daily=1), next_hour)


def test_all_windows_count_whatever_is_configured():
    """A limit that arrives later finds what was taken before it was there."""
    credits = Credits(["hard"])
    for _ in range(5):
        credits.charge("hard", windows_of(NOON))
    assert [credits.used("hard", kind, windows_of(NOON)) for kind in ("minutely", "hourly", "daily")] == [5, 5, 5]


def test_cameras_with_clocks_apart_do_not_reset_each_other():
    """Frames that alternate between two minutes are counted in both of them."""
    credits = Credits(["hard"])
    for _ in range(4):
        credits.charge("hard", windows_of(NOON))
        credits.charge("hard", windows_of(NOON - timedelta(milliseconds=1)))
    assert credits.used("hard", "minutely", windows_of(NOON)) == 4
    assert credits.used("hard", "minutely", windows_of(NOON - timedelta(milliseconds=1))) == 4


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(1, 5))
def test_recent_counts_are_exact_for_what_they_remember(keys, capacity):
    """A key's count is the number of times that it was added since it was last forgotten, over all orders."""
    counts = RecentCounts(capacity)
    for key in keys:
        counts.add(str(key))
    latest = list(dict.fromkeys(reversed(keys)))
    assert list(counts.state()) == [str(key) for key in reversed(latest[:capacity])]
    if len(latest) <= capacity:
        assert counts.state() == {str(key): n for key, n in Counter(keys).items()}


def test_counts_survive_a_restart_as_json():
    """What is written to disk and read again goes on counting where it was."""
    credits = Credits(["hard"])
    for minute in range(5):
        credits.charge("hard", windows_of(NOON + timedelta(minutes=minute)))
    again = Credits(["hard"], json.loads(json.dumps(credits.state())))
    assert again.state() == credits.state()
    assert again.used("hard", "hourly", windows_of(NOON)) == 5


def test_the_state_stays_small():
    """A year of samples and a thousand strategies that came and went leave a bounded state, and no live one is lost."""
    credits = Credits(["live"])
    for day in range(400):
        credits.charge("live", windows_of(NOON + timedelta(days=day)))
    for number in range(1000):
        credits.charge(f"former-{number}", windows_of(NOON))
    state = Credits(["live"], credits.state()).state()
    assert len(state) == FORMER_STRATEGIES + 1
    assert "live" in state
    assert "former-999" in state
    assert all(len(windows) <= REMEMBERED_WINDOWS for kinds in state.values() for windows in kinds.values())
