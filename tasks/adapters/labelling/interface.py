"""What every place where people label can do: take a batch, say how far it is, give back what was done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from tasks.core.entities import Batch, Label, Record, Sample


class LabellingStatus(BaseModel):
    """How far people are with a batch, in images."""

    offered: int
    done: int
    skipped: int = 0

    @classmethod
    def of(cls, offered: Iterable[str], labels: Iterable[Label]) -> LabellingStatus:
        """offered: sample ids. Labels of other images count for nothing; an image that several people
        have labelled counts once, and as done where anybody has labelled it."""
        wanted = set(offered)
        found = [label for label in labels if label.sample_id in wanted]
        done = {label.sample_id for label in found if label.status == "done"}
        return cls(offered=len(wanted), done=len(done), skipped=len({label.sample_id for label in found} - done))

    @property
    def complete(self) -> bool:
        return self.done + self.skipped >= self.offered


class Labelling(Protocol):
    """Where people label."""

    def push(self, batch: Batch, image_of: Callable[[Sample], Path], seeds: Mapping[str, Label]) -> None:
        """Offer a batch; it is the same to offer it again, which changes nothing that people have or have done.

        image_of: the local file of a sample's image. seeds: sample id -> the boxes that people begin with; an image
        that is not among them comes blank.
        """

    def offered(self, batch: Batch) -> tuple[str, ...]:
        """The sample ids that people were given."""

    def seeds(self, batch: Batch) -> dict[str, Label]:
        """What people saw before they began, by sample id; nothing of an image that came to them blank."""

    def pull(self, batch: Batch) -> list[Label]:
        """What people have done, in the order of sample ids. Of one image there may be labels of several people."""

    def problems(self, batch: Batch) -> list[str]:
        """What could not be used of it when it was pulled last, a line each."""

    def where(self, batch_id: str) -> str: ...


class Offer(Record):
    """What people were given of a batch: the images, and the boxes that they began with."""

    images: tuple[str, ...]
    seeds: tuple[Label, ...]
