"""Ingest: segments become batches once, whatever happens in between."""

import gzip
import json

import pytest

from tasks.adapters.bucket import Bucket
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Batch, Turn
from tasks.core.errors import BucketError
from tasks.ingest import Cursor, find_devices, ingest_device, make_batches
from tasks.turn import save_turn
from tests.adapters.s3 import fresh_s3_url
from tests.tasks.stages import NOON, a_picture, a_project, a_sample, commit

find, ingest, save = find_devices.fn, ingest_device.fn, save_turn.fn


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


def batches_of(project) -> dict[str, Batch]:
    bucket = Central(project).bucket
    return {name: bucket.read_record(layout.batch(name), Batch) for name in bucket.children("batches")}


def record(project, *names: str, number: int = 1) -> None:
    """A turn that knows of batches."""
    save(project, Turn(number=number, started_at=NOON, batches=dict.fromkeys(names, 0)))


def test_only_what_is_new_is_taken_in(project):
    """Each segment becomes part of a batch once; later calls name nothing again."""
    assert find(project) == []
    commit(project, 1, [a_sample(0), a_sample(1)])
    commit(project, 2, [a_sample(2)])
    first = ingest(project, "edge-1")
    assert (first.samples, first.segments, len(first.batches)) == (3, 2, 1)
    record(project, *first.batches)
    commit(project, 3, [a_sample(3)])
    second = ingest(project, "edge-1")
    assert (second.samples, second.segments) == (1, 1)
    assert not set(first.batches) & set(second.batches)
    ids = [s.sample_id for name in (*first.batches, *second.batches) for s in batches_of(project)[name].samples]
    assert ids == [a_sample(n).sample_id for n in range(4)]
    record(project, *first.batches, *second.batches, number=2)
    third = ingest(project, "edge-1")
    assert (third.samples, third.segments, third.batches) == (0, 0, ())
    assert find(project) == ["edge-1"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "s3"])
def test_a_crash_before_the_cursor_makes_the_same_batches_again(kind, request, tmp_path):
    """Batches whose cursor was never written are made again under the same ids, and none is doubled."""
    project = a_project(tmp_path, bucket=fresh_s3_url(request) if kind == "s3" else "")
    commit(project, 1, [a_sample(n) for n in range(5)])
    first = ingest(project, "edge-1")
    before = batches_of(project)
    Central(project).bucket.remove(layout.ingest_cursor("edge-1"))
    assert ingest(project, "edge-1") == first
    assert batches_of(project) == before
    assert len(before) == 2  # three images a batch at most


def test_ingest_costs_what_is_new(project, monkeypatch):
    """With nothing new, two reads and no write, however many segments, batches and turns there were."""
    for number in range(1, 31):
        commit(project, number, [a_sample(number)])
    record(project, *ingest(project, "edge-1").batches)
    ingest(project, "edge-1")
    calls = []
    for verb in ("get", "put", "create", "exists", "list", "children"):
        monkeypatch.setattr(Bucket, verb, counted(getattr(Bucket, verb), verb, calls))
    ingest(project, "edge-1")
    assert calls == [("get", layout.ingest_cursor("edge-1")), ("get", layout.segment("edge-1", 31))]


def counted(method, verb, calls):
    def call(bucket, key, *arguments):
        calls.append((verb, key))
        return method(bucket, key, *arguments)

    return call


def test_a_crash_after_the_cursor_loses_no_batch(project):
    """Batches are named again until a turn has recorded them, also when more came in between and other devices fail."""
    commit(project, 1, [a_sample(0)])
    lost = ingest(project, "edge-1")
    assert ingest(project, "edge-1").batches == lost.batches
    commit(project, 2, [a_sample(1)])
    found = ingest(project, "edge-1")
    assert found.samples == 2
    assert set(lost.batches) < set(found.batches)
    record(project, *found.batches)
    assert ingest(project, "edge-1").batches == ()
    assert Central(project).bucket.read_record(layout.ingest_cursor("edge-1"), Cursor) == Cursor(segments=2)


def test_more_segments_after_a_crash_lose_and_double_no_sample(project):
    """When the cursor was not written and more has come, the named batches hold every sample exactly once."""
    commit(project, 1, [a_sample(0)])
    ingest(project, "edge-1")
    Central(project).bucket.remove(layout.ingest_cursor("edge-1"))
    commit(project, 2, [a_sample(1)])
    named = ingest(project, "edge-1").batches
    ids = [s.sample_id for name in named for s in batches_of(project)[name].samples]
    assert sorted(ids) == sorted(a_sample(n).sample_id for n in (0, 1))


def test_a_class_list_that_changed_after_a_crash_does_not_stop_ingest(project):
    """A batch keeps the class list that it was made with."""
    commit(project, 1, [a_sample(0)])
    first = ingest(project, "edge-1")
    Central(project).bucket.remove(layout.ingest_cursor("edge-1"))
    grown = project.model_copy(update={"classes": ("car", "truck", "bus"), "class_list_version": 2})
    assert ingest(grown, "edge-1").batches == first.batches
    assert batches_of(project)[first.batches[0]].class_names == ("car", "truck")


def test_bad_segments_and_lines_are_named_and_left_out(tmp_path):
    """No gzip, half of one, a line that is no sample, a time beyond the calendar: a line each, the rest is in."""
    project = a_project(tmp_path)
    bucket = Central(project).bucket
    bucket.put(layout.segment("edge-1", 1), b"no gzip at all")
    bucket.put(layout.segment("edge-1", 2), gzip.compress(b"x" * 1000)[:-9])
    good = a_sample(0)
    late = good.model_dump_json().replace("2026-05-01T12:00:00.000Z", "9999-12-31T23:59:59-05:00")
    lines = ["nonsense", good.model_dump_json(), '{"sample_id": "../../etc"}', late]
    bucket.put(layout.segment("edge-1", 3), gzip.compress("\n".join(lines).encode()))
    commit(project, 4, [])
    found = ingest(project, "edge-1")
    assert (found.samples, found.segments) == (1, 4)
    assert len(found.problems) == 5
    for number, words in enumerate(["000000000001", "000000000002", "line 1", "line 3", "line 4"]):
        assert words in found.problems[number]
    assert ingest(project, "edge-1").segments == 0


def test_devices_one_version_apart_are_taken_in_and_the_newer_ones_are_told(tmp_path):
    """An older device without a word; a newer one without the fields that are unknown here, in one line a segment."""
    project = a_project(tmp_path)
    newer = [{**json.loads(a_sample(n).model_dump_json()), "schema_version": 2, "lens": "wide"} for n in (1, 2)]
    older = json.loads(a_sample(3).model_dump_json())
    del older["clock_suspect"], older["source"]
    ahead = {**newer[0], "schema_version": 3}
    lines = "\n".join(json.dumps(line) for line in [*newer, older, ahead])
    Central(project).bucket.put(layout.segment("edge-1", 1), gzip.compress(lines.encode()))
    found = ingest(project, "edge-1")
    assert found.samples == 3
    (batch,) = batches_of(project).values()
    assert list(batch.samples) == [a_sample(1), a_sample(2), a_sample(3)]
    too_far, told = found.problems
    assert "line 4: lens" in too_far
    assert "2 of its records are of a newer version and taken without lens" in told


def test_a_device_speaks_for_itself_alone(tmp_path):
    """Samples of another device, and ids that are not those of their images, are left out with a line."""
    project = a_project(tmp_path)
    stolen = a_sample(1, device="edge-1", sample_id=a_sample(2).sample_id)
    commit(project, 1, [a_sample(0), stolen, a_sample(3, device="edge-2")])
    found = ingest(project, "edge-1")
    assert found.samples == 1
    assert "sha256" in found.problems[0]
    assert "'edge-2'" in found.problems[1]


def test_files_that_are_no_devices_are_passed_over(tmp_path):
    """A name that no device can have does not stop the others."""
    project = a_project(tmp_path)
    commit(project, 1, [a_sample(0)])
    (tmp_path / "bucket" / "yard" / "devices" / "My Notes.txt").write_text("x")
    assert find(project) == ["edge-1"]


def test_a_bucket_that_does_not_answer_is_no_end_of_the_segments(tmp_path):
    """An unreachable bucket is an error, and the cursor stays where it is."""
    project = a_project(tmp_path)
    commit(project, 1, [a_sample(0)])
    blocked = tmp_path / "bucket" / "yard" / "ingest"
    blocked.write_text("a file in the place of the folder")
    with pytest.raises(BucketError, match="ingest"):
        ingest(project, "edge-1")
    blocked.unlink()
    assert ingest(project, "edge-1").samples == 1


def test_batches_follow_the_batching_strategy_and_hold_each_image_once(tmp_path):
    """By name, at most max_images each, in the order of time; an image that came twice is one sample."""
    project = a_project(tmp_path)
    samples = [a_sample(n, batch="yard_2026_05_01") for n in (4, 3, 2, 1)] + [a_sample(9, batch="Höfe/../x")]
    batches = make_batches(
        [*samples, a_sample(4, batch="yard_2026_05_01"), a_sample(9, batch="again")], project, "edge-1"
    )
    assert [len(batch.samples) for batch in batches] == [1, 3, 1]
    assert [s.captured_at.minute for s in batches[1].samples] == [1, 2, 3]
    assert batches[0].batch_id.startswith("again-edge-1-")
    assert batches[1].batch_id.startswith("yard-2026-05-01-edge-1-")
    (odd,) = make_batches([a_sample(9, batch="Höfe/../x" * 20)], project, "edge-1")
    assert layout.batch(odd.batch_id)


def test_what_measures_the_model_is_labelled_blank(tmp_path):
    """Exactly the test and calibration images of the random slice are offered without pre-annotations."""
    project = a_project(tmp_path, labelling={"max_images": 500})
    samples = [a_sample(n, captured_at=NOON.replace(day=1 + n), random_slice=n % 2 == 0) for n in range(28)]
    (batch,) = make_batches(samples, project, "edge-1")
    unseeded = set(batch.unseeded)
    drawn = {s.sample_id for s in samples if s.random_slice}
    assert unseeded < drawn  # 60% of them
    assert 3 <= len(unseeded) <= 12
    assert a_picture(0) != a_picture(1)
