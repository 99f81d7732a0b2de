"""What several people said of the same images: kept in the bucket beside the label that the loop takes of each."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from tasks.central import Central, says_the_same
from tasks.core import layout
from tasks.core.entities import Label
from tasks.core.errors import ObjectConflict


def opinions_of(central: Central, batch_id: str) -> list[Label]:
    """The newest word of each person on each image that several have labelled, by sample id and name."""
    number = central.bucket.latest_number(partial(layout.opinions, batch_id))
    if not number:
        return []
    return central.bucket.read_lines(layout.opinions(batch_id, number), Label)[0]


def keep_opinions(central: Central, batch_id: str, labels: Iterable[Label]) -> list[Label]:
    """All that is known of the images that several people have labelled, once it knows `labels`.

    What was said once stays, also where the place no longer tells it. What is new becomes the next number; none is
    ever written over.
    """
    of: dict[str, dict[str, Label]] = {}
    for label in sorted(labels, key=lambda one: one.labelled_at):
        of.setdefault(label.sample_id, {})[label.annotator] = label
    several = {
        (sample, name): label for sample, theirs in of.items() if len(theirs) > 1 for name, label in theirs.items()
    }
    while True:
        number = central.bucket.latest_number(partial(layout.opinions, batch_id))
        before = {(one.sample_id, one.annotator): one for one in opinions_of(central, batch_id)} if number else {}
        new = {key: label for key, label in several.items() if not says_the_same(label, before.get(key))}
        known = before | new
        everything = [known[key] for key in sorted(known)]
        if not new:
            return everything
        try:
            central.bucket.create_lines(layout.opinions(batch_id, number + 1), everything)
        except ObjectConflict:
            continue
        return everything
