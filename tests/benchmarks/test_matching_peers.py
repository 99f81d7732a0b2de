"""Others beside our matching: what cannot be measured is told, and what is compared has the same outcome."""

import sys
from collections import Counter

import pytest

from tasks.core.matching import match
from tests.benchmarks import bench_matching, matching_peers
from tests.benchmarks.bench_matching import CLASS_NAMES, Taken, labelled_images, loop_seconds, matching_table


def test_the_obvious_loop_finds_what_the_matching_finds():
    """The same hits and kinds of blind misses on random images; any other outcome ends the benchmark."""
    results = labelled_images(20, seed=1)
    ours = Counter(match(results).truths.blind.tolist())
    assert loop_seconds(results, ours) >= 0
    with pytest.raises(RuntimeError, match="the obvious loop"):
        loop_seconds(results, ours + Counter({"unseen": 1}))


def test_both_coco_evaluations_are_timed(monkeypatch):
    """Seconds of each; where pycocotools is not installed, none."""
    results = labelled_images(3, seed=1)
    assert matching_peers.faster_coco_seconds(results, CLASS_NAMES) > 0
    seconds = matching_peers.pycocotools_seconds(results, CLASS_NAMES)
    assert seconds is not None
    assert seconds > 0
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    assert matching_peers.pycocotools_seconds(results, CLASS_NAMES) is None


def test_a_fiftyone_that_does_not_start_says_why(monkeypatch, tmp_path):
    """Its last words in place of a figure; its home is no home of ours."""
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\necho "no mongod runs here" >&2\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setattr(matching_peers.sys, "executable", str(program))
    assert matching_peers.fiftyone_seconds(500) == "no mongod runs here"
    program.write_text('#!/bin/sh\ncase "$HOME" in *edgeloop-bench-*) echo \'{"cpu": 1.5}\';; esac\n')
    assert matching_peers.fiftyone_seconds(500) == 1.5


def test_the_table_tells_growth_and_what_is_missing(monkeypatch):
    """Growth from each number of images to the next, the target, and dashes for what was not measured."""

    def measured(images, rounds):
        seconds, few = [images / 5_000], images <= 5_000
        others = [2 * images / 5_000] if few else []
        fiftyone = "no mongod runs here" if images == 500 else None
        return Taken(seconds, seconds, others, others, [], fiftyone, images / 10)

    monkeypatch.setattr(bench_matching, "measured", measured)
    table = matching_table()
    assert [row[0] for row in table.rows] == ["500 images", "5,000 images", "50,000 images"]
    assert table.rows[0][1:] == ("0.20", "0.10", "400", "0.20", "0.20", "-", "-", "50")
    assert table.rows[2][4:] == ("-", "-", "-", "-", "5,000")
    assert "target under 3 s, reached. 10 times the images took 10.0 times as long, 10 times" in table.notes[0]
    assert table.notes[2:] == ["FiftyOne, 500 images: no mongod runs here.", "pycocotools is not installed here."]
