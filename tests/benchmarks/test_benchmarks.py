"""What the benchmarks print and keep. Their figures are not tested: they say what a machine can do."""

import json
import time
from pathlib import Path

import pytest

from tests.benchmarks import bench_demo, machine, results
from tests.benchmarks.bench_demo import Outcome
from tests.benchmarks.pairs import Timed, measure_pairs
from tests.benchmarks.tables import Table


def test_a_table_is_aligned_markdown():
    """Words to the left, figures to the right, notes below; without rows only the notes are left."""
    table = Table("Speed", ("", "frames/s"), [("ours", "9.5"), ("theirs, longer", "10.0")], ["Measured once."])
    assert str(table) == (
        "### Speed\n\n"
        "|                | frames/s |\n"
        "|----------------|---------:|\n"
        "| ours           |      9.5 |\n"
        "| theirs, longer |     10.0 |\n"
        "\nMeasured once.\n"
    )
    assert str(Table("Speed", (), (), ["Left out."])) == "### Speed\n\nLeft out.\n"


def test_one_section_of_the_results_can_be_written_again(tmp_path):
    """The other sections stay as they were, in their order, each with its own machine."""
    path = tmp_path / "RESULTS.md"
    for name, where in (("matching", "here"), ("edge", "there"), ("bucket_outbox", "here")):
        results.write(path, name, where, [Table(name, ("", "s"), [("x", "1")]), Table("more", (), (), ["A note."])])
    before = results.read(path)
    assert list(before) == ["edge", "matching", "bucket_outbox"]
    results.write(path, "matching", "elsewhere", [Table("new", ("", "s"), [("x", "2")])])
    after = results.read(path)
    assert {name: after[name] for name in ("edge", "bucket_outbox")} == {
        n: before[n] for n in ("edge", "bucket_outbox")
    }
    assert after["matching"].startswith("elsewhere\n\n### new")
    assert "## Bucket and outbox" in path.read_text()


def test_pairs_are_measured_in_alternating_order_and_the_first_round_only_warms_up():
    """Three rounds after the warm-up: medians of ratios within a round, whatever a single round met."""
    order = []

    def side(name, seconds):
        given = iter(seconds)

        def one() -> Timed:
            order.append(name)
            return Timed(next(given), 1.0)

        return one

    pairs = measure_pairs(side("a", [9, 2, 4, 2]), side("b", [1, 1, 1, 4]), rounds=3)
    assert pairs.speed_ratio == 2.0
    assert len(pairs.first) == len(pairs.second) == 3
    assert "".join(order) in {"baabbaab", "abbaabba"}


def test_what_others_take_of_the_machine_is_told():
    """Our own work is not theirs: the share lies within 0 and 1, and the sentence names it."""
    with machine.Watch() as watch:
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            pass
    assert 0 <= watch.others <= 1
    assert str(watch).startswith(("Other processes took", "How much others"))
    assert str(machine.cores()) in machine.describe()


def test_seeds_are_ranges_and_single_ones():
    """As they are typed: a range holds both of its ends."""
    assert bench_demo.seeds_of("100-103") == [100, 101, 102, 103]
    assert bench_demo.seeds_of("1,3-4") == [1, 3, 4]


def test_finished_seeds_are_not_played_again(tmp_path, monkeypatch, capsys):
    """A demo that fails is told and tried again by the next call; what is done is read from the file."""
    played = []

    def play(seed: int, *, quick: bool) -> Outcome:
        played.append(seed)
        if seed == 2 and played.count(2) == 1:
            raise RuntimeError("seed 2: the demo ended with exit status 2: no room")
        return Outcome(seed, quick, 0.5, 0.6, 0.4, 0.5, "accepted", 0.8, 0.4, True, 4, 6, 0, 100.0 + seed)

    monkeypatch.setattr(bench_demo, "play", play)
    keep = tmp_path / "kept.json"
    (first,) = bench_demo.tables("1-3", keep)
    assert first.notes[-1].endswith("no room")
    assert [row[0] for row in first.rows] == ["1", "3", "median"]
    (second,) = bench_demo.tables("1-3", keep)
    assert played == [1, 2, 3, 2]
    assert [row[0] for row in second.rows] == ["1", "2", "3", "median"]
    assert "median +0.100, better in 3 of 3" in second.notes[0]
    assert "rules / random: median 2.00, above 1 in 3 of 3" in second.notes[1]
    assert "seed 2, AP50 before 0.500" in capsys.readouterr().err
    assert len(json.loads(keep.read_text())) == 3


def test_a_demo_that_came_to_no_second_round_has_dashes(tmp_path):
    """What is not known is not made up, and does not enter the medians."""
    table = bench_demo.table_of([Outcome(1, seconds=9.0), Outcome(2, False, 0.5, 0.6, seconds=11.0)])
    assert table.rows[0][1:10] == ("-",) * 9
    assert table.rows[-1][1] == "0.500"
    assert table.rows[-1][-1] == "10"


@pytest.mark.parametrize("name", ["edge", "sampler", "matching", "bucket_outbox", "demo"])
def test_every_benchmark_that_is_named_is_there(name):
    """`--only NAME` finds a module with tables, and RESULTS.md has a place for it."""
    assert (Path(bench_demo.__file__).parent / f"bench_{name}.py").exists()
    assert name in results.ORDER
