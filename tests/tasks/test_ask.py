"""Samples that somebody sends to labelling by hand: batches at once, taken in by the next turn."""

import pytest

from tasks.ask import LabellingRequest, asked_batches, send_to_labelling
from tasks.central import Central
from tasks.core import layout
from tasks.core.errors import NotEnoughData, SettingsError
from tests.tasks.stages import a_batch, a_project


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


def test_what_is_sent_becomes_batches_that_a_turn_takes_once(project):
    """Four picked samples of two batches are batches of at most three; a turn that knows them gets nothing more."""
    first, second = a_batch(project, range(3)), a_batch(project, range(3, 6), batch_id="later")
    ids = [sample.sample_id for sample in (*first.samples, second.samples[0])]
    request = send_to_labelling(project, {"today": ids[:3], "later": ids[3:]}, by="kim")
    assert sorted(request.batches.values()) == [1, 3]
    sent = [s.sample_id for batch in request.batches for s in Central(project).batch(batch).samples]
    assert sorted(sent) == sorted(ids)
    assert asked_batches.fn(project, {"today": 1}) == request.batches
    assert asked_batches.fn(project, {"today": 1, **request.batches}) == {}


def test_a_turn_that_missed_several_requests_takes_them_all(project):
    """Requests that came since the last turn are all taken in, those before it are not asked for again."""
    batch = a_batch(project, range(3))
    requests = [send_to_labelling(project, {"today": [s.sample_id]}, by="kim") for s in batch.samples]
    known = dict.fromkeys(requests[0].batches, 1)
    wanted = requests[1].batches | requests[2].batches
    assert asked_batches.fn(project, known) == wanted
    assert list(asked_batches.fn(project, known)) == list(wanted)


def test_measured_images_come_blank_again(project):
    """What measures models is labelled without pre-annotations, also when it is sent by hand."""
    batch = a_batch(project, (), samples=tuple(s.model_copy(update={"random_slice": True}) for s in some(40)))
    request = send_to_labelling(project, {"today": [s.sample_id for s in batch.samples]}, by="kim")
    made = [Central(project).batch(name) for name in request.batches]
    assert sum(len(one.unseeded) for one in made) > 0


def some(count):
    from tests.tasks.stages import a_sample

    return [a_sample(number) for number in range(count)]


def test_what_cannot_be_sent_is_one_clear_line(project):
    """Nothing picked, an unknown batch, a sample of another batch, and the same images twice on a day."""
    batch = a_batch(project, range(3))
    ids = [s.sample_id for s in batch.samples]
    for picked, error, words in [
        ({}, NotEnoughData, "no image is selected"),
        ({"today": []}, NotEnoughData, "no image is selected"),
        ({"gone": ids}, SettingsError, "'gone' is not in the bucket"),
        ({"../etc": ids}, SettingsError, "not in the bucket"),
        ({"today": ["0" * 20]}, SettingsError, "does not hold sample 0000"),
    ]:
        with pytest.raises(error, match=words) as caught:
            send_to_labelling(project, picked, by="kim")
        assert "\n" not in str(caught.value)
    send_to_labelling(project, {"today": ids}, by="kim")
    with pytest.raises(SettingsError, match="sent to labelling today already"):
        send_to_labelling(project, {"today": ids}, by="ben")
    assert Central(project).bucket.latest_number(layout.request) == 1


def test_a_damaged_request_stops_no_turn(project):
    """One that cannot be read is passed over, and the others are taken in."""
    batch = a_batch(project, range(3))
    one = send_to_labelling(project, {"today": [batch.samples[0].sample_id]}, by="kim")
    Central(project).bucket.put(layout.request(2), b"{")
    two = send_to_labelling(project, {"today": [batch.samples[1].sample_id]}, by="kim")
    assert isinstance(two, LabellingRequest)
    assert two.number == 3
    assert asked_batches.fn(project, ()) == one.batches | two.batches
