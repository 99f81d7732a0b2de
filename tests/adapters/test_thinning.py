"""What the cap cost, against a plain list of all that went: for a sample as it is, and had it been of another kind."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.adapters.outbox.records import Kind, RecordName, other_kind_of, value_of
from tasks.adapters.outbox.thinning import Thinning
from tests.adapters.samples import a_sample

IDS = 2**80
KINDS: list[Kind] = [(0, 1, -1.0), (0, 1, -0.64), (0, 2, -1.0), (1, 0, 0.0)]  # from the least worth to the most
STEPS = st.lists(
    st.tuples(st.sampled_from(["gone", "gone", "gone", "open again", "tidy"]), st.sampled_from(KINDS),
              st.integers(0, IDS - 1), st.integers(0, 2)),
    max_size=15,
)  # fmt: skip


def slow_probability(gone: list[tuple[int, Kind, int]], kind: Kind, number: int) -> float:
    """Straight from the rule: of all that went since, the worthiest is what a sample must be worth more than."""
    since = [(other, rank) for at, other, rank in gone if at >= number]
    if not since:
        return 1.0
    worthiest, rank = max(since)
    if worthiest == kind:
        return (IDS - 1 - rank) / IDS
    return 1.0 if worthiest < kind else 0.0


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 6))
def test_how_likely_another_kind_was_to_stay_is_that_of_a_plain_list(steps, put_at):
    """After any history, also of restarts and of a file that was cut, for the samples that wait."""
    waiting = [RecordName("0" * 16, put_at, (*KINDS[3], f"{IDS - 1:020x}"))]
    with TemporaryDirectory() as folder:
        path, gone, number = Path(folder) / "thinned.txt", [], put_at
        thinning = Thinning(path, waiting)
        for step, kind, rank, later in steps:
            if step == "gone":
                number += later
                thinning.note((*kind, f"{rank:020x}"), number)
                gone.append((number, kind, rank))
            elif step == "open again":
                thinning = Thinning(path, waiting)
            else:
                thinning._cut(waiting)
        for kind in KINDS:
            for at in range(put_at, number + 2):
                assert thinning.probability_as(kind, at) == slow_probability(gone, kind, at)


def test_the_other_kind_of_a_sample_follows_from_who_else_would_have_kept_it():
    """A chosen one might have been of the random slice; one of the slice of the kind of its strategies, if they won."""
    chosen, _ = a_sample(1, matched=("a", "b"), chosen_by=2, probability=0.7, probability_random=0.1)
    drawn, _ = a_sample(2, random_slice=True, matched=("r", "a", "b"), chosen_by=2, probability=0.7,
                        probability_random=0.1)  # fmt: skip
    assert other_kind_of(chosen) == value_of(drawn)[:3]
    assert other_kind_of(drawn) == value_of(chosen)[:3]
    assert other_kind_of(drawn.model_copy(update={"chosen_by": 0})) is None
    assert other_kind_of(a_sample(3, random_slice=True)[0]) is None  # as an older device wrote it
