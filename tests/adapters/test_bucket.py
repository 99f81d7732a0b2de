"""The bucket, on a folder and on a real S3 server: one set of promises for both."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.adapters.bucket import Bucket, checked_key, decode_lines, encode_lines
from tasks.core import layout
from tasks.core.entities import Release, TrafficRecord
from tasks.core.errors import BucketError, ObjectConflict, ObjectMissing, RecordInvalid, SettingsError
from tests.adapters.s3 import SECRET, fresh_s3_url


@pytest.fixture(params=["folder", "s3"])
def bucket(request, tmp_path):
    """A bucket of each kind, with nothing in it."""
    url = f"file://{tmp_path}/bucket" if request.param == "folder" else fresh_s3_url(request)
    opened = Bucket(url, "yard")
    yield opened
    opened.close()


def test_an_object_comes_back_as_it_was_put(bucket):
    """What is put is got, a repeat changes nothing, and a new content replaces the old one."""
    bucket.put("a/b.bin", b"\x00one")
    bucket.put("a/b.bin", b"\x00one")
    assert bucket.get("a/b.bin") == b"\x00one"
    bucket.put("a/b.bin", b"")
    assert bucket.get("a/b.bin") == b""
    assert bucket.exists("a/b.bin")


def test_a_missing_object_is_told_apart_from_a_missing_bucket(bucket):
    """`get` of a key that nobody wrote raises ObjectMissing and names the URL; `exists` says no."""
    with pytest.raises(ObjectMissing, match=r"yard/a/none\.json: there is no such object"):
        bucket.get("a/none.json")
    assert not bucket.exists("a/none.json")
    assert not bucket.exists("a")
    bucket.remove("a/none.json")


def test_creation_has_one_winner_and_recognises_its_own_content(bucket):
    """The first content stays; the same content again is a success (a lost reply), other content a conflict."""
    assert bucket.create("n/000001.json", b"mine")
    assert bucket.create("n/000001.json", b"mine")
    with pytest.raises(ObjectConflict, match=r"n/000001\.json"):
        bucket.create("n/000001.json", b"yours")
    assert bucket.get("n/000001.json") == b"mine"


@pytest.mark.slow
def test_of_sixteen_writers_of_one_number_one_wins(bucket):
    """Sixteen threads race for one key, five times over: one creates it, and the bytes are the winner's."""
    for turn in range(5):
        barrier = threading.Barrier(16)

        def write(writer, turn=turn, barrier=barrier):
            barrier.wait()
            try:
                bucket.create(f"race/{turn:06d}.json", f"writer {writer}".encode())
            except ObjectConflict:
                return None
            return writer

        with ThreadPoolExecutor(16) as pool:
            winners = [w for w in pool.map(write, range(16)) if w is not None]
        assert len(winners) == 1
        assert bucket.get(f"race/{turn:06d}.json") == f"writer {winners[0]}".encode()


def test_a_list_is_sorted_and_stays_inside_the_project(bucket):
    """Keys come sorted and relative to the project; another project's objects and other prefixes do not."""
    for key in ("b/2.json", "b/10.json", "a/1.json", "bb/1.json"):
        bucket.put(key, b"x")
    other = Bucket(bucket.url, "other")
    other.put("b/3.json", b"x")
    other.close()
    assert bucket.list("b/") == ["b/10.json", "b/2.json"]
    assert bucket.list() == ["a/1.json", "b/10.json", "b/2.json", "bb/1.json"]
    assert bucket.list("nothing/") == []
    with pytest.raises(SettingsError):
        bucket.list("../")


def test_a_download_is_checked_before_it_appears(bucket, tmp_path):
    """A file of the right sha256 arrives whole; with the wrong one nothing appears and no temporary file stays."""
    content = os.urandom(700_000)
    bucket.put("models/m.onnx", content)
    target = tmp_path / "down" / "m.onnx"
    bucket.download("models/m.onnx", target, hashlib.sha256(content).hexdigest())
    assert target.read_bytes() == content
    target.write_bytes(b"old")
    with pytest.raises(BucketError, match="sha256 is"):
        bucket.download("models/m.onnx", target, "0" * 64)
    with pytest.raises(ObjectMissing):
        bucket.download("models/none.onnx", tmp_path / "down" / "none.onnx")
    assert [p.name for p in target.parent.iterdir()] == ["m.onnx"]
    assert target.read_bytes() == b"old"


def test_an_uploaded_file_is_the_object(bucket, tmp_path):
    """`upload` writes a file's bytes; a file that is not there is a BucketError naming it."""
    (tmp_path / "w.pt").write_bytes(b"weights")
    bucket.upload("models/w.pt", tmp_path / "w.pt")
    assert bucket.get("models/w.pt") == b"weights"
    with pytest.raises(BucketError, match=r"none\.pt"):
        bucket.upload("models/none.pt", tmp_path / "none.pt")


def test_records_are_validated_on_the_way_in(bucket):
    """A record comes back equal; JSON that is not its schema is a RecordInvalid that names key and field."""
    release = a_release(1)
    key = layout.release("all", 1)
    assert bucket.create_record(key, release)
    assert bucket.read_record(key, Release) == release
    bucket.put(key, release.to_json().replace(b'"number": 1', b'"number": 0'))
    with pytest.raises(RecordInvalid, match=r"releases/all/000001\.json: is no valid Release: number"):
        bucket.read_record(key, Release)
    bucket.put(key, b"{ not json")
    with pytest.raises(RecordInvalid):
        bucket.read_record(key, Release)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 13])
def test_the_latest_number_is_found_without_listing(tmp_path, count):
    """For any number of consecutive objects and any known number, the highest one is found in few requests."""
    bucket = Bucket(f"file://{tmp_path}", "yard")
    for number in range(1, count + 1):
        bucket.create(layout.release("all", number), b"x")
    asked = []

    def key(number):
        asked.append(number)
        return layout.release("all", number)

    for after in range(count + 1):
        assert bucket.latest_number(key, after) == count
    asked.clear()
    bucket.latest_number(key, count)
    assert asked == [count + 1]


def test_writers_who_append_at_once_have_a_number_each(tmp_path):
    """Four writers append five records each: the twenty numbers are consecutive, each with what its writer holds."""

    def append_five(writer):
        bucket = Bucket(f"file://{tmp_path}", "yard")
        for _ in range(5):
            yield bucket.append_record(
                lambda n: layout.release("all", n), lambda n: a_release(n).model_copy(update={"reason": writer})
            )

    with ThreadPoolExecutor(4) as pool:
        made = [release for some in pool.map(lambda w: list(append_five(w)), "abcd") for release in some]
    bucket = Bucket(f"file://{tmp_path}", "yard")
    assert sorted(release.number for release in made) == list(range(1, 21))
    for release in made:
        assert bucket.read_record(layout.release("all", release.number), Release) == release


def test_a_number_that_was_taken_meanwhile_is_passed_over(tmp_path, monkeypatch):
    """Another writer's record stays, and ours has the number after it."""
    bucket = Bucket(f"file://{tmp_path}", "yard")
    theirs = a_release(1).model_copy(update={"reason": "theirs"})
    bucket.create_record(layout.release("all", 1), theirs)
    monkeypatch.setattr(bucket, "latest_number", lambda number_key: 0)
    assert bucket.append_record(lambda n: layout.release("all", n), a_release).number == 2
    assert bucket.read_record(layout.release("all", 1), Release) == theirs


def test_lines_survive_the_round_trip_and_bad_ones_are_named(bucket):
    """Gzipped lines come back equal, equal records give equal bytes, a bad line is left out and named."""
    records = [a_traffic_record(i) for i in range(3)]
    assert encode_lines(records) == encode_lines(records)
    bucket.create_lines("t/1.jsonl.gz", records)
    assert bucket.read_lines("t/1.jsonl.gz", TrafficRecord) == (records, [])
    broken = gzip.compress(b"".join(r.model_dump_json().encode() + b"\n" for r in records[:2]) + b'{"rate": 2}\n')
    kept, problems = decode_lines(broken, TrafficRecord, "here")
    assert kept == records[:2]
    assert problems
    assert problems[0].startswith("here line 3: ")


@pytest.mark.parametrize("data", [b"", b"not gzip", encode_lines([])[:-4]])
def test_a_cut_or_foreign_lines_object_is_invalid(data):
    """Bytes that are no whole gzip file raise RecordInvalid, whatever they are."""
    if data == b"":
        assert decode_lines(data, TrafficRecord, "here") == ([], [])
        return
    with pytest.raises(RecordInvalid, match="here"):
        decode_lines(data, TrafficRecord, "here")


def test_a_gzip_bomb_is_refused():
    """An object of 100 kB that unpacks to 100 MB is refused before it fills the memory."""
    bomb = gzip.compress(b"\n" * 100 * 2**20)
    assert len(bomb) < 200_000
    with pytest.raises(RecordInvalid, match="unpacks to more than"):
        decode_lines(bomb, TrafficRecord, "here")


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/./b", "a/.hidden", "a\nb", "a\x00b", "a b", "ä", "a/", "x" * 901],
)
def test_a_key_that_could_leave_the_project_is_refused(tmp_path, key):
    """`..`, absolute, empty, hidden and control-character keys are refused by every verb, and nothing is written."""
    bucket = Bucket(f"file://{tmp_path}/bucket", "yard")
    for call in (bucket.get, bucket.exists, bucket.remove, bucket.url_of, lambda k: bucket.put(k, b"x")):
        with pytest.raises(SettingsError):
            call(key)
    assert not (tmp_path / "bucket").exists()


@given(st.text(max_size=30))
def test_an_accepted_key_always_stays_below_its_root(key):
    """Whatever text is given: it is refused, or it is a path that normalises to itself below the root."""
    try:
        checked_key(key)
    except SettingsError:
        return
    assert os.path.normpath(f"/root/{key}") == f"/root/{key}"


@pytest.mark.parametrize(
    "url", ["", "bucket", "http://x/y", "file://", "file://host/x", "s3://", "s3://key:secret@b/p"]
)
def test_a_url_that_is_no_bucket_is_refused(url):
    """Other schemes and URLs with credentials are refused, and the message does not repeat the secret."""
    with pytest.raises(SettingsError) as caught:
        Bucket(url, "yard")
    assert "secret" not in str(caught.value)


def test_a_folder_with_a_space_in_its_name_is_that_folder(tmp_path):
    """The URL that Python makes of a path leads back to it."""
    folder = tmp_path / "two words"
    Bucket(folder.as_uri(), "yard").put("a.txt", b"x")
    assert (folder / "yard" / "a.txt").read_bytes() == b"x"


def test_a_bucket_that_can_be_used_passes_its_tests_and_is_left_clean(bucket):
    """The self-tests pass on a folder and on a server with conditional writes, and leave one marker behind."""
    bucket.check_writable()
    bucket.check_conditional_writes()
    assert bucket.list() == [layout.conditional_writes()]


def test_conditional_writes_are_tried_once_for_a_bucket_and_again_on_another_server(bucket, monkeypatch):
    """The marker is read and nothing written; one that a copy brought along from another server does not count."""
    bucket.check_conditional_writes()
    created = []
    create = bucket._store.create
    monkeypatch.setattr(bucket._store, "create", lambda path, data: created.append(path) or create(path, data))
    bucket.check_conditional_writes()
    assert created == []
    marker = bucket.get(layout.conditional_writes())
    bucket.put(layout.conditional_writes(), marker.replace(b'"place": "', b'"place": "elsewhere'))
    bucket.check_conditional_writes()
    assert created
    assert bucket.get(layout.conditional_writes()) == marker


def test_a_bucket_without_conditional_writes_is_refused(tmp_path, monkeypatch):
    """A store that lets every writer win, as some servers do, is refused with the reason, and again the next time."""
    bucket = Bucket(f"file://{tmp_path}", "yard")
    store = bucket._store
    monkeypatch.setattr(store, "create", lambda path, data: store.write(path, data) or True)
    for _ in range(2):
        with pytest.raises(BucketError, match=r"ignores conditional writes.*9 of 9 writers"):
            bucket.check_conditional_writes()
    assert bucket.list() == []


def test_an_unwritable_folder_is_one_line_that_says_so(tmp_path):
    """A bucket whose place is taken by a file is refused in one line naming it."""
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(BucketError, match="cannot be written") as caught:
        Bucket(f"file://{tmp_path}/taken", "yard").check_writable()
    assert "\n" not in str(caught.value)


def test_a_missing_s3_bucket_is_named(request):
    """Writing to a bucket that does not exist says NoSuchBucket and what to do."""
    url = fresh_s3_url(request)
    bucket = Bucket(url.replace("s3://", "s3://not-"), "yard")
    with pytest.raises(BucketError, match="NoSuchBucket: create it"):
        bucket.check_writable()
    bucket.close()


def test_neither_repr_nor_logs_nor_pickles_hold_the_secret(request, caplog):
    """The secret key of the environment is in no log line, no repr, no pickle and no error of a working bucket."""
    bucket = Bucket(fresh_s3_url(request), "yard")
    with caplog.at_level(logging.DEBUG):
        bucket.put("a.txt", b"x")
        with pytest.raises(ObjectMissing) as caught:
            bucket.get("b.txt")
    copy = pickle.loads(pickle.dumps(bucket))
    assert copy.get("a.txt") == b"x"
    bucket.close()
    copy.close()
    for text in (caplog.text, repr(bucket), str(bucket.__dict__), str(pickle.dumps(bucket)), str(caught.value)):
        assert SECRET not in text


def test_a_child_after_fork_opens_its_own_connections(request):
    """A forked process can use the bucket that its parent has used."""
    bucket = Bucket(fresh_s3_url(request), "yard")
    bucket.put("a.txt", b"x")
    child = os.fork()
    if child == 0:  # pragma: no cover - the child
        os._exit(0 if bucket.get("a.txt") == b"x" else 1)
    deadline = time.monotonic() + 20
    status = None
    while status is None and time.monotonic() < deadline:
        pid, code = os.waitpid(child, os.WNOHANG)
        status = code if pid else None
        time.sleep(0.05)
    if status is None:
        os.kill(child, 9)
        os.waitpid(child, 0)
    bucket.close()
    assert status == 0


def a_release(number):
    return Release(
        group="all",
        number=number,
        created_at=datetime(2026, 5, 1),
        class_names=("truck",),
        settings={"sampling_strategies": [{"type": "random", "name": "random"}]},
    )


def a_traffic_record(second):
    return TrafficRecord(
        camera="gate",
        captured_at=datetime(2026, 5, 1, 0, 0, second),
        rate=0.1,
        model_version="stub",
        class_names=("truck",),
        confidences=(0.25,),
    )
