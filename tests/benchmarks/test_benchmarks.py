"""What the benchmarks print and keep. Their figures are not tested: they say what a machine can do."""

import importlib.metadata
import json
import os
import stat
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

from tasks.adapters.detector.formats import UltralyticsFormat
from tasks.core.boxes import nms
from tests.benchmarks import __main__ as command_line
from tests.benchmarks import bench_demo, bench_edge, bench_growth, edge_footprint, edge_peer, machine, results
from tests.benchmarks.bench_demo import Outcome
from tests.benchmarks.edge_contenders import BareSession, Collector, PlainLoop, Stopwatch
from tests.benchmarks.edge_peer import InferencePipelinePeer, PeerMissing
from tests.benchmarks.pairs import Pairs, Timed, measure_pairs
from tests.benchmarks.plain_detect import FLOOR, NMS_IOU
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


@pytest.mark.parametrize("name", [*command_line.NAMES, command_line.DEMO, command_line.YIELD])
def test_every_benchmark_that_is_named_is_there(name):
    """`--only NAME` finds a module with tables, and RESULTS.md has a place for it."""
    assert (Path(bench_demo.__file__).parent / f"bench_{name}.py").exists()
    assert name in results.ORDER


# --- the edge's sides -------------------------------------------------------------------------------------------------


class Side:
    """A contender with given times; one that fails says why."""

    def __init__(self, name: str, seconds: float, failure: str = "") -> None:
        self.name, self.detections, self._seconds, self._failure = name, 7, seconds, failure

    def __call__(self) -> Timed:
        if self._failure:
            raise PeerMissing(self._failure)
        return Timed(self._seconds, self._seconds)


def measured(peer: Side) -> tuple[dict[str, Pairs], list[str], str]:
    sides = [Side(BareSession.name, 1.0), Side(Collector.name, 1.25), Side(PlainLoop.name, 2.0), peer]
    contenders, told = {side.name: side for side in sides}, []
    pairs = bench_edge.measure(contenders, 1, told)
    targets = {BareSession.name: 0.9, PlainLoop.name: 1.0, InferencePipelinePeer.name: 1.15}
    return pairs, told, str(bench_edge.speed_table("Edge", targets, pairs, contenders, 10, told))


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()]


def test_the_edge_table_holds_every_side_against_its_target():
    """The bare session is 1; the collector's ratio to each other side is judged by that side's own target."""
    pairs, told, table = measured(Side(InferencePipelinePeer.name, 1.375))
    assert pairs[Collector.name].speed_ratio == 0.8
    assert told == []
    assert "0.800 times the speed of bare InferenceSession.run, side by side; target 0.90, missed" in table
    assert "1.600 times the speed of plain OpenCV + ONNX Runtime loop, side by side; target 1.00, reached" in table
    assert "1.100 times the speed of Roboflow InferencePipeline, side by side; target 1.15, missed" in table
    assert (
        "| edgeloop collector               |      8.0 |   0.800 | 0.80 to 0.80 |       125.00 |          7 |" in table
    )


def test_a_peer_that_cannot_be_measured_is_a_row_of_dashes_and_a_reason():
    """No figure is made up, and the other sides keep theirs."""
    pairs, told, table = measured(Side(InferencePipelinePeer.name, 1.0, failure="out of memory"))
    assert f"against {InferencePipelinePeer.name}" not in pairs
    assert told == ["Roboflow InferencePipeline could not be measured: out of memory."]
    assert (
        "| Roboflow InferencePipeline       |        - |       - |            - |            - |          - |" in table
    )
    assert told[0] in table
    assert "1.600 times the speed of plain" in table


def test_the_peer_is_installed_only_when_it_is_asked_for(monkeypatch, tmp_path):
    """Without the flag the table says how to get it; with it, a full disk is told and nothing is installed."""
    monkeypatch.setattr(bench_edge, "FOLDER", tmp_path)
    assert "--peer-inference" in bench_edge.peer_of(bench_edge.Options()).told[0]
    monkeypatch.setattr(edge_peer, "ROOM_BYTES", 10**18)
    peer = bench_edge.peer_of(bench_edge.Options(peer_inference=True))
    assert peer.python is None
    assert "could not be installed: " in peer.told[0]
    assert "GB of disk are free" in peer.told[0]
    assert not (tmp_path / "inference").exists()


def test_the_flag_of_the_command_line_reaches_the_edge(monkeypatch):
    """`--peer-inference` is an option of the edge's benchmark."""
    monkeypatch.setattr(bench_edge, "tables", lambda options: iter([options]))
    (options,) = command_line.run("edge", Namespace(peer_inference=True))
    assert options.peer_inference


def test_the_peer_has_our_onnx_runtime_and_is_pinned_by_version():
    """The same session on both sides: its environment is other packages, not another ONNX Runtime."""
    lines = [line for line in edge_peer.REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert pins["onnxruntime"] == importlib.metadata.version("onnxruntime")
    assert pins["inference"]
    assert len({version for name, version in pins.items() if name.startswith("opencv-")}) == 1


def test_the_peer_runs_offline_and_without_our_keys(monkeypatch):
    """No key and no path of ours reach its process; telemetry is off."""
    monkeypatch.setenv("ROBOFLOW_API_KEY", "planted")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    given = edge_peer.environment_variables("caches")
    assert not {"ROBOFLOW_API_KEY", "API_KEY", "PYTHONPATH"} & set(given)
    assert given["OFFLINE_MODE"] == given["TELEMETRY_OPT_OUT"] == "True"
    assert given["MODEL_CACHE_DIR"] == "caches"


def test_the_reason_of_a_failed_installation_is_one_line_without_addresses():
    """The line that names the error, whatever is drawn around it."""
    told = (
        "warning: slow\n  \u00d7 Nothing found\n  \u2570\u2500\u25b6 Because x is not at https://host/simple\nhint: y"
    )
    assert edge_peer.reason_in(told) == "Because x is not at a registry"
    assert edge_peer.reason_in("Traceback (most recent call last):\n File\nImportError: no x\n[1] gone") == (
        "ImportError: no x"
    )
    assert edge_peer.reason_in("") == ""


def a_peer(folder: Path, script: str) -> InferencePipelinePeer:
    """The peer's side with a process of another kind."""
    python = folder / "inference" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!{sys.executable}\n{script}")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return InferencePipelinePeer(python, folder / "model.onnx", folder / "clip.mp4", 1, 10, "yolox")


def test_the_peers_process_answers_round_after_round(tmp_path):
    """One process for all rounds: its versions first, then the times that it measured itself."""
    peer = a_peer(
        tmp_path,
        'import sys\nprint(\'{"inference": "1"}\', flush=True)\n'
        'for line in sys.stdin: print(\'{"wall": 2.0, "cpu": 3.0, "detections": 4}\', flush=True)\n',
    )
    try:
        assert peer.described == "inference 1"
        assert peer() == peer() == Timed(2.0, 3.0)
        assert peer.detections == 4
    finally:
        peer.close()
    assert os.listdir(tmp_path) == ["inference"]


def test_a_peer_whose_process_dies_says_why(tmp_path):
    """At its start or between two rounds: the line that its process ended with."""
    with pytest.raises(PeerMissing, match=r"^ImportError: no such thing$"):
        a_peer(tmp_path / "a", "raise ImportError('no such thing')")
    peer = a_peer(tmp_path / "b", "print('{}', flush=True)\ninput()\nraise MemoryError('all gone')")
    try:
        with pytest.raises(PeerMissing, match=r"^MemoryError: all gone$"):
            peer()
    finally:
        peer.close()


def test_a_large_model_takes_fewer_frames_and_rounds():
    """Below 640 pixels nothing is cut; a smaller wish stays."""
    options = bench_edge.Options(frames=300, rounds=9)
    assert options.for_input(416) == options
    assert (options.for_input(640).frames, options.for_input(640).rounds) == (60, 5)
    assert bench_edge.Options(frames=20, rounds=1).for_input(640).frames == 20


# --- growth ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boxes", bench_growth.VARIED["detections"])
def test_so_many_boxes_come_out_of_nms_as_go_in(boxes):
    """Every candidate is above the floor and overlaps none; they lie where a wide picture is."""
    candidates = UltralyticsFormat().decode(bench_growth.output_with(boxes)[None], FLOOR)
    assert len(candidates.confidence) == boxes
    assert len(nms(candidates.xyxy, candidates.confidence, candidates.class_id, NMS_IOU, 300)) == boxes
    assert len(nms(candidates.xyxy, candidates.confidence, candidates.class_id * 0, 0.001, 300)) == boxes
    assert ((candidates.xyxy[:, 1] >= 64) & (candidates.xyxy[:, 3] <= 192)).all()


@pytest.mark.parametrize("strategies", bench_growth.VARIED["strategies"])
def test_any_number_of_strategies_keeps_the_same_share(strategies):
    """What is measured is deciding, not storing more."""
    settings = bench_growth.sampling_of(strategies)
    shares = [strategy.probability for strategy in settings.sampling_strategies]
    assert len(shares) == strategies
    assert sum(shares) == pytest.approx(0.01)
    assert settings.confidence_floor == FLOOR


def test_the_first_value_of_a_growth_table_is_one():
    """Every further value has its ratio to the first one, from pairs with it."""
    pairs = {
        2: Pairs([Timed(1.0, 2.0)], [Timed(2.0, 4.0)]),
        4: Pairs([Timed(1.0, 2.0)], [Timed(4.0, 4.0)]),
    }
    rows = list(bench_growth.rows((1, 2, 4), pairs, {1: 3, 2: 4, 4: 5}, 100))
    assert rows[0] == ("1", "100.0", "1.000", "", "20.00", "3")
    assert rows[1] == ("2", "50.0", "0.500", "0.50 to 0.50", "40.00", "4")
    assert rows[2] == ("4", "25.0", "0.250", "0.25 to 0.25", "40.00", "5")


class Sees:
    """A detector of one object a frame."""

    model_version = "m"

    def detect_prepared(self, prepared: object) -> list[int]:
        return [1]


def test_a_stopwatch_begins_with_the_first_source_or_after_its_warm_up():
    """A second camera's opening does not start it anew; detections of the warm-up are counted, its time is not."""
    watch = Stopwatch(Sees())
    watch.opened()
    time.sleep(0.05)
    watch.opened()
    watch.detect_prepared(None)
    assert watch.taken.wall >= 0.05
    watch = Stopwatch(Sees(), warm_up=2)
    watch.opened()
    time.sleep(0.05)
    watch.detect_prepared(None)
    watch.detect_prepared(None)
    assert watch.taken == Timed(0.0, 0.0)
    time.sleep(0.01)
    watch.detect_prepared(None)
    assert watch.taken.wall >= 0.01
    assert watch.found == 3
    watch.reset()
    assert (watch.found, watch.taken) == (0, Timed(0.0, 0.0))


# --- memory and import -----------------------------------------------------------------------------------------------


def test_memory_and_import_are_held_against_their_targets(monkeypatch, tmp_path):
    """A model that is not there leaves its row out; boto3 gets a row of its own where it was imported."""
    monkeypatch.setattr(edge_footprint, "_import", lambda before: (1.2, False) if before else (1.7, True))
    monkeypatch.setattr(edge_footprint, "_memory", lambda *_: 260.4)
    model = tmp_path / "nano.onnx"
    without = edge_footprint.footprint_table(model, "coco80", tmp_path, 1)
    assert [row[1:] for row in without.rows] == [("1.70", "1.5", "missed"), ("1.20", "1.5", "reached")]
    model.touch()
    assert edge_footprint.footprint_table(model, "coco80", tmp_path, 1).rows[0] == (
        "resident memory at most, MB: nano",
        *("260", "250", "missed"),
    )


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says it")
def test_the_peak_of_resident_memory_is_that_of_this_process():
    """It grows with what was written to and does not shrink when that is given back."""
    code = (
        "import numpy; from tests.benchmarks.edge_footprint import peak_bytes; before = peak_bytes();"
        "numpy.ones(before // 4); print(peak_bytes() / before)"
    )
    assert float(edge_footprint._output([sys.executable, "-c", code])) > 1.5
