"""The simulated yard, its clock, its cameras, replayed photographs, and the simulated people who label."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.adapters.camera import open_source as open_any_source
from tasks.adapters.labels import ImportedImage
from tasks.adapters.simulation import (
    CAMERAS,
    CLASS_NAMES,
    FolderTruth,
    SimulatedAnnotator,
    WorldClock,
    YardTruth,
    YardWorld,
    ground_truth,
    light_at,
    open_source,
    render,
)
from tasks.adapters.simulation.background import background_of
from tasks.adapters.simulation.shapes import back_to_front, hides, thing_of
from tasks.adapters.simulation.world import (
    CONTAINER_LIVERIES_AFTER_DRIFT,
    TRUCK_LIVERIES_AFTER_DRIFT,
    Tenant,
    layout,
    tenants,
)
from tasks.core.boxes import iou_matrix
from tasks.core.entities import Detection, LabelBox, Sample
from tasks.core.errors import SettingsError, SourceUnavailable

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
WORLDS = [YardWorld(seed=seed) for seed in (1, 2)]


def sample(number=0, source="a.jpg", width=320, height=256):
    return Sample(
        sample_id=f"{number:020x}",
        sha256="0" * 64,
        device="edge-1",
        camera="north",
        captured_at=NOON,
        width=width,
        height=height,
        source=source,
        strategy="random",
        matched=("random",),
        probability=0.5,
        random_slice=True,
        model_version="stub",
        settings_version="all/1",
    )


def box(*xyxy, name="container"):
    return LabelBox(class_name=name, xyxy=xyxy)


def detection(*xyxy, name="container", confidence=0.9):
    return Detection(class_name=name, confidence=confidence, xyxy=xyxy)


def annotator(truth, **settings):
    options = {"seed": 1, "overlook_rate": 0.0, "accept_false_rate": 0.0, "jitter": 0.0} | settings
    return SimulatedAnnotator(lambda _: list(truth), **options)


# --- the yard --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(seed=st.integers(1, 5), camera=st.integers(0, CAMERAS - 1), index=st.integers(0, 1400))
@settings(max_examples=15, deadline=None)
def test_a_frame_and_its_truth_depend_on_seed_camera_and_index_alone(seed, camera, index):
    """Rendered again after other frames were, the pixels are equal to the bit and the boxes to the number."""
    world = YardWorld(seed=seed)
    pixels, boxes = render(world, camera, index), ground_truth(world, camera, index)
    render(YardWorld(seed=seed + 1), camera, index + 3)
    again = YardWorld(seed=seed)
    assert np.array_equal(pixels, render(again, camera, index))
    assert boxes == ground_truth(again, camera, index)


def test_another_process_sees_the_same_yard():
    """Hash randomisation and the order of calls change nothing: the annotator need not share the camera's process."""
    world = YardWorld(seed=4)
    code = (
        "from hashlib import sha256\n"
        "from tasks.adapters.simulation import YardWorld, ground_truth, render\n"
        "w = YardWorld(seed=4)\n"
        "print(sha256(render(w, 2, 777).tobytes()).hexdigest(), ground_truth(w, 2, 777))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    expected = f"{sha256(render(world, 2, 777).tobytes()).hexdigest()} {ground_truth(world, 2, 777)}\n"
    assert told == expected


def test_a_box_is_where_the_pixels_change_when_its_object_is_taken_away(monkeypatch):
    """Truth and picture agree: at night, without sun shadows, only the box and the ground at its foot change."""
    world, checked = YardWorld(seed=1, drift_from=None), 0
    for camera in range(CAMERAS):
        for index in range(465, 500, 5):
            boxes, standing = ground_truth(world, camera, index), tenants(world, camera, index)
            picture = render(world, camera, index).astype(int)
            for tenant in (t for t in standing if t.kind == "container" and t.load is None):
                kept = tuple(t for t in standing if t is not tenant)
                with monkeypatch.context() as patch:
                    patch.setattr("tasks.adapters.simulation.yard.tenants", lambda *_, kept=kept: kept)
                    without, left = render(world, camera, index), ground_truth(world, camera, index)
                gone = set(boxes) - set(left)
                if len(gone) != 1 or set(left) - set(boxes):
                    continue  # it hid another, or showed too little itself
                x1, y1, x2, y2 = (int(v) for v in gone.pop().xyxy)
                changed = np.abs(picture - without).max(axis=2) > 2
                margin = np.array((x2 - x1, y2 - y1)) // 6 + 3
                rows, columns = np.nonzero(changed)
                assert changed[y1:y2, x1:x2].mean() > 0.3
                assert rows.min() >= y1 - margin[1]
                assert rows.max() <= y2 + margin[1]
                assert columns.min() >= x1 - margin[0]
                assert columns.max() <= x2 + margin[0]
                checked += 1
    assert checked >= 10


@pytest.mark.slow
def test_boxes_lie_in_the_picture_and_are_large_enough_to_be_seen():
    """Every box of 800 frames: known class, inside the frame, 10 to 160 pixels long."""
    for world in WORLDS:
        for camera in range(CAMERAS):
            for index in range(0, 1000, 10):
                for truth in ground_truth(world, camera, index):
                    x1, y1, x2, y2 = truth.xyxy
                    assert truth.class_name in CLASS_NAMES
                    assert 0 <= x1 < x2 <= 320
                    assert 0 <= y1 < y2 <= 256
                    assert 10 <= max(x2 - x1, y2 - y1) <= 160


@pytest.mark.slow
def test_the_yard_is_as_busy_as_it_is_said_to_be():
    """About three objects a frame, about a fifth of the frames empty, two containers to a truck, slow changes."""
    frames = [
        [ground_truth(world, camera, index) for index in range(500)] for world in WORLDS for camera in range(CAMERAS)
    ]
    per_frame = [len(truth) for camera in frames for truth in camera]
    classes = Counter(b.class_name for camera in frames for truth in camera for b in truth)
    changes = [len(set(a) ^ set(b)) for camera in frames for a, b in pairwise(camera)]
    assert 2.6 < np.mean(per_frame) < 4.0
    assert 0.1 < np.mean(np.array(per_frame) == 0) < 0.26
    assert 1.6 < classes["container"] / classes["truck"] < 3.0
    assert 0.5 < np.mean(changes) < 2.5


def test_less_than_a_quarter_visible_is_no_ground_truth(monkeypatch):
    """A container right behind another, as the camera sees it, is not asked for; beside it it is."""
    world = YardWorld(seed=1)

    def truth_of(*standing):
        with monkeypatch.context() as patch:
            patch.setattr("tasks.adapters.simulation.yard.tenants", lambda *_: standing)
            patch.setattr("tasks.adapters.simulation.yard.background_of", lambda *_: bare)
            return ground_truth(world, 0, 0)

    bare = replace(background_of(1, 0), things=())
    near = Tenant("container", "blue", 0.0, 30.0, 0.0, 6.06, 0)
    second = Tenant("container", "grey", 0.0, 30.0, 0.0, 6.06, 0)
    behind, beside = replace(near, y=32.6), replace(near, x=9.0, y=32.6)
    assert len(truth_of(near)) == 1
    assert len(truth_of(near, beside)) == 2
    hidden = truth_of(near, behind, replace(behind, y=35.4))
    assert len(hidden) < 3
    assert len(truth_of(replace(near, load=second))) == 2


def test_a_truck_and_its_load_have_a_box_each(monkeypatch):
    """The container on a truck is ground truth of its own, inside the truck's box."""
    world = YardWorld(seed=1)
    load = Tenant("container", "orange", 0.0, 30.0, 0.0, 6.06, 0)
    truck = Tenant("truck", "red", 0.0, 30.0, 0.0, 9.6, 0, "flat", load)
    monkeypatch.setattr("tasks.adapters.simulation.yard.tenants", lambda *_: (truck,))
    found = {b.class_name: b.xyxy for b in ground_truth(world, 0, 0)}
    assert set(found) == {"container", "truck"}
    outer, inner = found["truck"], found["container"]
    assert outer[0] <= inner[0]
    assert inner[2] <= outer[2]
    assert inner[3] <= outer[3]


def test_nothing_new_arrives_before_the_drift_and_much_after_it():
    """New liveries are absent from what arrives on the first day, and most of what stands at the end of the second."""
    new = {*CONTAINER_LIVERIES_AFTER_DRIFT, *TRUCK_LIVERIES_AFTER_DRIFT}
    world = YardWorld(seed=3, drift_from=1.5)

    def styles(first, last):
        found = [t for camera in range(CAMERAS) for i in range(first, last, 5) for t in tenants(world, camera, i)]
        return [t.style for t in found if t.kind != "clutter"]

    assert not new & set(styles(0, 750))
    assert 0.5 < np.mean([style in new for style in styles(800, 1000)]) < 0.85
    steady = YardWorld(seed=3, drift_from=None)
    late = [t.style for i in range(800, 1000, 5) for t in tenants(steady, 0, i)]
    assert late
    assert not new & set(late)


def test_fog_is_more_frequent_after_the_drift():
    """Share of foggy frames over 20 yards, first day and second."""
    worlds = [YardWorld(seed=seed, drift_from=1.0) for seed in range(1, 6)]
    foggy = [
        [light_at(w, 0, i).fog > 0.01 for w in worlds for i in range(day * 500, day * 500 + 500, 5)] for day in (0, 1)
    ]
    assert np.mean(foggy[1]) > 2 * np.mean(foggy[0])


def test_nights_are_darker_than_days():
    """Mean brightness at noon and at midnight, and the hours in between."""
    world = YardWorld(seed=2, drift_from=None)
    brightness = {hour: render(world, 1, round(hour / 24 * 500)).mean() for hour in (0, 6, 12, 18)}
    assert brightness[0] < 0.6 * brightness[12]
    assert brightness[0] < brightness[6] < brightness[12]
    assert brightness[0] < brightness[18] < brightness[12]


def test_things_are_drawn_from_back_to_front():
    """For any standing set, whatever is separated from another on its far side comes before it."""
    world = YardWorld(seed=2)
    for index in range(0, 200, 20):
        things = back_to_front([thing_of(t) for t in tenants(world, 3, index)])
        for later, thing in enumerate(things):
            for other in things[:later]:
                assert not (hides(other, thing) and not hides(thing, other))


def test_a_camera_that_the_yard_does_not_have_is_refused():
    """The message names the ones that it has."""
    with pytest.raises(SettingsError, match=r"no camera 4.*0 to 3"):
        layout(YardWorld(seed=1), 4)


# --- clock and sources -----------------------------------------------------------------------------------------------


def test_frames_of_the_yard_carry_time_place_and_name():
    """500 frames make a day of 24 hours from the fixed start; the source names camera and index."""
    with open_any_source("yard://?seed=3&camera=2&days=0.02", "north") as source:
        frames = list(source)
    assert [f.index for f in frames] == list(range(10))
    assert frames[5].source == "yard-2#5"
    assert frames[5].camera == "north"
    assert frames[5].captured_at == datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=5 * 172.8)
    assert np.array_equal(frames[5].pixels, render(YardWorld(seed=3), 2, 5))
    assert not source.is_live
    assert source.skipped == {}
    assert source.last_error == ""


def test_a_start_moves_the_light_with_the_clock_but_not_the_yard():
    """Opened at noon, frame 0 is bright and shows what frame 0 shows at midnight."""
    noon = next(iter(open_source("yard://?seed=3&camera=0", "north", start=NOON)))
    midnight = next(iter(open_source("yard://?seed=3&camera=0", "north")))
    assert noon.captured_at == NOON
    assert noon.pixels.mean() > 2 * midnight.pixels.mean()
    assert noon.source == midnight.source


def test_a_source_waits_for_the_worlds_clock_and_ends_with_it(tmp_path):
    """It gives exactly the frames that the clock allows, goes on when the clock does, and stops when the world ends."""
    clock = WorldClock(tmp_path / "new" / "clock.json")
    source = open_source(f"yard://?seed=1&camera=0&clock={clock.path}", "north")
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(f.index for f in source))
    reader.start()
    time.sleep(0.1)
    assert seen == []
    for frames in (3, 7):
        clock.advance_to(frames)
        wait_until(lambda frames=frames: len(seen) == frames)
        time.sleep(0.1)
        assert seen == list(range(frames))
    clock.advance_to(2)  # never backwards
    assert clock.read().frames == 7
    clock.end()
    reader.join(5)
    assert not reader.is_alive()
    assert seen == list(range(7))


def test_closing_frees_a_source_that_waits(tmp_path):
    """`close` from another thread ends the iteration although the clock stands still."""
    source = open_source(f"yard://?seed=1&camera=0&clock={tmp_path / 'clock.json'}", "north")
    reader = threading.Thread(target=lambda: list(source))
    reader.start()
    source.close()
    reader.join(5)
    assert not reader.is_alive()


def test_a_source_goes_on_where_it_is_told_to():
    """`first` skips what an interrupted stream has already given, without moving time."""
    source = open_source("yard://?seed=3&camera=0&first=500&days=2", "north")
    frame = next(iter(source))
    assert (frame.index, frame.source) == (500, "yard-0#500")
    assert frame.captured_at == datetime(2026, 1, 2, tzinfo=timezone.utc)


def test_pace_holds_a_source_back():
    """Five frames at 20 a second take at least a fifth of a second."""
    before = time.monotonic()
    assert len(list(open_source("yard://?seed=3&camera=0&days=0.01&pace=20", "north"))) == 5
    assert time.monotonic() - before >= 0.19


def test_the_yard_goes_on_for_ever_without_days():
    """Frames far beyond the second day exist: a demo may run longer than its story."""
    assert next(iter(open_source("yard://?seed=3&camera=0&first=100000", "north"))).index == 100000


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("yard://?seed=x", "seed='x'"),
        ("yard://?seed=-1", "seed='-1'"),
        ("yard://?sed=1", "unknown option 'sed'"),
        ("yard://?camera=9", "no camera 9"),
        ("yard://?day_frames=0", "day_frames"),
        ("yard://?drift_from=nan", "drift_from"),
        ("yard://?days=0", "days"),
        ("replay://.?camera=2&cameras=2", "count from 0"),
        ("replay://.?drift_from=1", "unknown option 'drift_from'"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(source, words):
    """A typo in a source is named when it is opened, not met later as a strange stream."""
    with pytest.raises(SettingsError, match=words) as caught:
        open_source(source, "north")
    assert "\n" not in str(caught.value)


def test_a_broken_clock_is_refused(tmp_path):
    """A file that is no clock is named, with what it should hold."""
    path = tmp_path / "clock.json"
    for content in ("[]", "{", '{"frames": "many"}', "7"):
        path.write_text(content)
        with pytest.raises(SettingsError, match="clock"):
            WorldClock(path).read()


def test_the_clock_file_is_whole_at_every_instant(tmp_path):
    """A reader that never rests meets no half-written clock while it is moved 200 times."""
    clock, bad, stop = WorldClock(tmp_path / "clock.json"), [], threading.Event()
    clock.advance_to(0)

    def read():
        while not stop.is_set():
            try:
                json.loads(clock.path.read_text())
            except ValueError as error:
                bad.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(200):
        clock.advance_to(n)
    stop.set()
    reader.join()
    assert bad == []
    assert clock.read().frames == 199


@pytest.fixture
def photographs(tmp_path):
    """Twelve pictures in two splits, with their labels beside them and one broken file."""
    for n in range(12):
        folder = tmp_path / "images" / ("train" if n < 8 else "test")
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"p{n:02d}.png"), np.full((20, 30, 3), n * 20, np.uint8))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "p00.txt").write_text("0 .5 .5 .1 .1\n")
    (tmp_path / "images" / "train" / "p99.jpg").write_bytes(b"\xff\xd8\xff broken")
    return tmp_path


def test_photographs_are_replayed_once_in_seeded_order(photographs):
    """Every good picture once, the broken one counted, the order by the seed; pixels belong to the name."""
    source = open_any_source(f"replay://{photographs}?seed=5", "north")
    frames = list(source)
    assert sorted(f.source for f in frames) == [f"p{n:02d}.png" for n in range(12)]
    assert sum(source.skipped.values()) == 1
    assert "p99.jpg" in source.last_error
    assert all(f.pixels[0, 0, 0] == int(f.source[1:3]) * 20 for f in frames)
    again, other = ([f.source for f in open_source(f"replay://{photographs}?seed={seed}", "north")] for seed in (5, 6))
    assert [f.source for f in frames] == again != other


def test_several_cameras_share_a_folder_without_overlap(photographs):
    """Two cameras show all pictures between them; a camera's day of `day_frames` pictures has 24 hours."""
    streams = [
        list(open_source(f"replay://{photographs}?seed=5&camera={n}&cameras=2&day_frames=4", f"c{n}")) for n in (0, 1)
    ]
    names = [{f.source for f in stream} for stream in streams]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 12
    by_index = {f.index: f.captured_at for f in streams[0]}
    steps = {(at - datetime(2026, 1, 1, tzinfo=timezone.utc)) / index for index, at in by_index.items() if index}
    assert steps == {timedelta(hours=6)}


def test_replay_may_be_limited_to_splits_and_go_round(photographs):
    """`splits=test` gives the four pictures of that folder only; `laps=2` gives them twice."""
    frames = list(open_source(f"replay://{photographs}?splits=test&laps=2", "north"))
    assert Counter(f.source for f in frames) == {f"p{n:02d}.png": 2 for n in range(8, 12)}
    with pytest.raises(SourceUnavailable, match="no picture"):
        open_source(f"replay://{photographs}?splits=val", "north")
    with pytest.raises(SourceUnavailable, match="no folder"):
        open_source(f"replay://{photographs}/missing", "north")


def test_of_two_pictures_with_one_name_the_second_is_left_out(photographs):
    """Names are how the annotator tells pictures apart."""
    (photographs / "images" / "test" / "p00.png").write_bytes((photographs / "images/train/p01.png").read_bytes())
    source = open_source(f"replay://{photographs}?splits=train,test", "north")
    assert source.skipped == {"duplicate_name": 1}


# --- people ----------------------------------------------------------------------------------------------------------


def test_a_careful_person_labels_exactly_the_truth():
    """Without overlooking and jitter an unprompted label is the ground truth, and no correction is counted."""
    truth = [box(10, 10, 60, 50), box(100, 80, 180, 140, name="truck")]
    label = annotator(truth).label(sample(), None)
    assert label.boxes == tuple(truth)
    assert (label.seeded, label.corrections, label.status) == (False, 0, "done")
    assert annotator([]).label(sample(), None).boxes == ()


def test_corrections_count_what_a_person_changed():
    """One accepted, one moved, one renamed, one added, one false one removed: four corrections."""
    truth = [box(0, 0, 40, 40), box(100, 0, 140, 40), box(200, 0, 240, 40, name="truck"), box(0, 100, 50, 150)]
    shown = [
        detection(1, 0, 41, 40),
        detection(108, 0, 148, 40),
        detection(200, 0, 240, 40, name="container"),
        detection(250, 200, 280, 230),
    ]
    label = annotator(truth).label(sample(), shown)
    assert label.seeded
    assert label.corrections == 4
    assert label.boxes == (box(1, 0, 41, 40), truth[1], truth[2], truth[3])
    assert annotator([]).label(sample(), []).seeded


def test_people_overlook_unprompted_objects_and_believe_false_prompts_at_the_set_rates():
    """2,000 samples: 20% of unprompted objects are missing, no prompted one is, 30% of false prompts stay."""
    truth = [box(0, 0, 40, 40), box(100, 100, 160, 160)]
    prompted, false = detection(0, 0, 40, 40), detection(250, 200, 280, 230)
    person = annotator(truth, overlook_rate=0.2, accept_false_rate=0.3)
    labels = [person.label(sample(n), [prompted, false]) for n in range(2000)]
    kept = Counter(b.xyxy for label in labels for b in label.boxes)
    assert kept[0, 0, 40, 40] == 2000
    assert abs(kept[100, 100, 160, 160] / 2000 - 0.8) < 0.03
    assert abs(kept[250, 200, 280, 230] / 2000 - 0.3) < 0.035
    blank = [person.label(sample(n), None) for n in range(2000)]
    assert abs(sum(len(label.boxes) for label in blank) / 4000 - 0.8) < 0.03


def test_the_same_sample_gets_the_same_label():
    """A second pass, or another instance with the same seed, labels alike; another seed does not."""
    truth = [box(10 * n, 10 * n, 10 * n + 30, 10 * n + 30) for n in range(12)]
    options = {"overlook_rate": 0.3, "jitter": 0.05}
    first, second = annotator(truth, **options), annotator(truth, **options)
    assert first.label(sample(4), None) == first.label(sample(4), None) == second.label(sample(4), None)
    assert first.label(sample(4), None) != annotator(truth, seed=2, **options).label(sample(4), None)


@given(
    corner=st.tuples(st.floats(0, 300), st.floats(0, 236)),
    size=st.tuples(st.floats(4, 400), st.floats(4, 400)),
    jitter=st.floats(0, 0.2),
    number=st.integers(0, 10**6),
)
@settings(max_examples=200, deadline=None)
def test_a_drawn_box_stays_in_the_image_and_never_turns_inside_out(corner, size, jitter, number):
    """Whatever the jitter, labels are valid boxes; without jitter they are exact."""
    x2, y2 = min(320.0, corner[0] + size[0]), min(256.0, corner[1] + size[1])
    truth = box(*corner, x2, y2)
    drawn = annotator([truth], jitter=jitter).label(sample(number), None).boxes[0].xyxy
    assert 0 <= drawn[0] < drawn[2] <= 320
    assert 0 <= drawn[1] < drawn[3] <= 256
    if jitter == 0:
        assert drawn == pytest.approx(truth.xyxy)


def test_the_truth_of_the_yard_follows_the_samples_size():
    """A sample that was made half as large has boxes half as large."""
    truth, world = YardTruth(seed=1), YardWorld(seed=1)
    index = next(i for i in range(200, 300) if ground_truth(world, 0, i))
    full = truth(sample(source=f"yard-0#{index}"))
    half = truth(sample(source=f"yard-0#{index}", width=160, height=128))
    assert tuple(full) == ground_truth(world, 0, index)
    assert [tuple(2 * v for v in b.xyxy) for b in half] == [b.xyxy for b in full]
    with pytest.raises(SettingsError, match="no frame of the yard"):
        truth(sample(source="clip.mp4#3"))


def test_held_back_labels_are_found_by_file_name(tmp_path):
    """Boxes of an imported image in the sample's pixels; a picture that nobody has labelled is skipped, not guessed."""
    image = ImportedImage(tmp_path / "a.jpg", "train", 640, 512, (box(64, 64, 128, 128, name="truck"),))
    truth = FolderTruth({"a.jpg": image})
    assert truth(sample(source="a.jpg")) == [box(32, 32, 64, 64, name="truck")]
    person = SimulatedAnnotator(truth, seed=0)
    assert person.label(sample(source="b.jpg"), None).status == "skipped"


@pytest.mark.parametrize("field", ["overlook_rate", "accept_false_rate", "jitter"])
def test_impossible_rates_are_refused(field):
    """A rate outside 0 to 1, or a jitter that would turn boxes over, is an error that names the field."""
    with pytest.raises(SettingsError, match=field):
        SimulatedAnnotator(lambda _: [], seed=0, **{field: 1.5})


@given(
    truths=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), max_size=6, unique=True),
    shown=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), max_size=6),
)
@settings(max_examples=100, deadline=None)
def test_each_object_is_labelled_once_however_many_prompts_point_at_it(truths, shown):
    """A careful person ends with one box an object and none elsewhere, whatever was shown."""
    objects = [box(x * 40, y * 40, x * 40 + 30, y * 40 + 30) for x, y in truths]
    prompts = [detection(x * 4, y * 4, x * 4 + 30, y * 4 + 30) for x, y in shown]
    label = annotator(objects).label(sample(), prompts)
    assert len(label.boxes) == len(objects)
    if objects:
        iou = iou_matrix([b.xyxy for b in objects], [b.xyxy for b in label.boxes])
        assert (np.diag(iou) >= 0.75).all()


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_frame_is_rendered_in_a_few_milliseconds():
    """A day of 2,000 frames must not take longer to render than to look at: under 12 ms of CPU a frame."""
    world = YardWorld(seed=1)
    for camera in range(CAMERAS):
        render(world, camera, 0)
    before = time.process_time()
    for index in range(100):
        render(world, index % CAMERAS, index)
    assert (time.process_time() - before) / 100 < 0.012
