"""How devices are judged from what they said last."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.entities import Alert, DeviceStatus, Rates
from tasks.core.fleet import IN_TROUBLE, WORST_FIRST, Report, age_text, row_of, rows_of, summary

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)


def a_status(name: str = "edge-1", **fields) -> DeviceStatus:
    return DeviceStatus(
        **{
            "device": name,
            "group": "all",
            "reported_at": NOON - timedelta(seconds=30),
            "started_at": NOON - timedelta(days=2),
            "release_number": 3,
            "cameras": {"gate": "running", "dock": "ended"},
            **fields,
        }
    )


def judged(**fields) -> str:
    return row_of(Report("edge-1", a_status(**fields)), NOON, {"all": 3}).health


@pytest.mark.parametrize(
    ("fields", "health"),
    [
        ({}, "well"),
        ({"reported_at": NOON - timedelta(seconds=180)}, "well"),
        ({"reported_at": NOON - timedelta(seconds=190)}, "silent"),
        ({"reported_at": NOON - timedelta(seconds=190), "status_seconds": 90.0}, "well"),
        ({"release_number": 2}, "behind"),
        ({"release_number": 4}, "well"),
        ({"cameras": {"gate": "no frame for 12 s: timed out"}}, "degraded"),
        ({"cameras": {"gate": "unavailable: no such device"}}, "degraded"),
        ({"alerts": (Alert(name="clock suspect", since=NOON, message="jumped"),)}, "degraded"),
        ({"release_number": 2, "refused_release": "3: outputs differ"}, "degraded"),
        ({"release_number": 3, "refused_release": "2: outputs differ"}, "well"),
        ({"reported_at": NOON + timedelta(hours=2)}, "degraded"),
        ({"device": "edge-2"}, "degraded"),
        ({"finished": True}, "stopped"),
        ({"finished": True, "reported_at": NOON - timedelta(days=9), "cameras": {"gate": "unavailable"}}, "stopped"),
    ],
)
def test_a_device_is_judged_by_its_last_word(fields, health):
    """Silent after three of its own intervals; degraded by an alert, a camera or a refusal; stopped is no trouble."""
    assert judged(**fields) == health


def test_a_row_says_what_is_wrong():
    """Alerts by name, cameras that are down with their state, the refused release, and the last error."""
    status = a_status(
        cameras={"gate": "running", "dock": "no frame for 12 s"},
        alerts=(Alert(name="disk nearly full", since=NOON, message="3 MB"),),
        release_number=2,
        refused_release="3: outputs differ",
        rates=Rates(frames_per_second=4.5),
    )
    row = row_of(Report("edge-1", status, unknown_fields=("temperature",)), NOON, {"all": 3})
    assert (row.cameras_up, row.cameras_down) == (1, {"dock": "no frame for 12 s"})
    assert row.alerts == ("disk nearly full", "release 3 refused")
    assert row.last_error == "release 3: outputs differ"
    assert (row.frames_per_second, row.seen_seconds, row.newest_release, row.unknown_fields) == (4.5, 30, 3, 1)


def test_a_status_that_cannot_be_read_is_a_row():
    """The device stands there by its name, with what is wrong."""
    row = row_of(Report("edge-1", problem="status.json: Invalid JSON"), NOON, {})
    assert (row.health, row.in_trouble, row.last_error) == ("unreadable", True, "status.json: Invalid JSON")


@given(
    st.lists(
        st.builds(
            a_status,
            name=st.sampled_from([f"edge-{n}" for n in range(9)]),
            finished=st.booleans(),
            release_number=st.integers(0, 4),
            reported_at=st.datetimes(
                datetime(2026, 5, 1, 11), datetime(2026, 5, 1, 13), timezones=st.just(timezone.utc)
            ),
            refused_release=st.text(max_size=12),
        ),
        max_size=12,
    )
)
def test_rows_are_in_the_order_of_need_and_the_sum_counts_each_once(statuses):
    """Whatever devices write, each is one row, worst first, and the sentence's numbers add up."""
    rows = rows_of([Report(status.device, status) for status in statuses], NOON, {"all": 3})
    assert sorted(row.device for row in rows) == sorted(status.device for status in statuses)
    ranks = [WORST_FIRST.index(row.health) for row in rows]
    assert ranks == sorted(ranks)
    assert all(row.in_trouble == (row.health in IN_TROUBLE) for row in rows)
    sentence = summary(rows)
    if rows:
        counts, _, _ = sentence.partition(": ")[2].partition(";")
        assert sum(int(part.split()[0]) for part in counts.split(", ")) == len(rows)


def test_the_sum_is_one_sentence():
    """How many of which kind, their frames a second, what waits, who is on the newest release."""
    reports = [
        Report("a", a_status("a", rates=Rates(frames_per_second=4.25), outbox_samples=1200)),
        Report("b", a_status("b", rates=Rates(frames_per_second=2.0), release_number=2)),
        Report("c", a_status("c", rates=Rates(frames_per_second=9.0), reported_at=NOON - timedelta(hours=1))),
        Report("d", problem="nonsense"),
    ]
    assert summary(rows_of(reports, NOON, {"all": 3})) == (
        "4 devices: 1 well, 1 behind, 1 silent, 1 unreadable; 6.2 frames/s, 1,200 samples wait, 2 on the newest release"
    )
    assert summary([]) == "no device has reported yet"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "never"),
        (0.2, "0 s"),
        (99, "99 s"),
        (100, "2 min"),
        (3600, "60 min"),
        (7200, "2.0 h"),
        (3 * 86400, "3 d"),
        (-7200, "in 2.0 h"),
        (-0.4, "0 s"),
        (56 * 365 * 86400, "20,440 d"),
    ],
)
def test_ages_are_readable(seconds, text):
    """Seconds, minutes, hours, days, and a clock that is ahead."""
    assert age_text(seconds) == text
