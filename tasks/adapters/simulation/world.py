"""Which yard it is, and what stands where at which frame: a pure function of seed, camera and frame index.

Nothing is ever stored. Every choice is a draw from a hash of what it is about, so that the camera that renders a frame
and the annotator that labels it months later agree without exchanging anything.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

from tasks.adapters.simulation.layout import Bay, CameraLayout, layout_of
from tasks.core.errors import SettingsError

CAMERAS = 4
CLASS_NAMES = ("container", "truck")
CONTAINER_LIVERIES = ("oxide", "blue", "orange", "teal", "brown", "grey")
CONTAINER_LIVERIES_AFTER_DRIFT = ("reefer", "tank", "olive", "lime")
TRUCK_LIVERIES = ("red", "white", "yellow", "blue")
TRUCK_LIVERIES_AFTER_DRIFT = ("dark-green", "sand")
SHARE_OF_NEW_KINDS = 0.7  # of what arrives after the drift

QUIET_FRAMES = 9  # a camera's view is cleared for whole blocks of this many frames ...
QUIET_SHARE = 0.17  # ... in this share of them

Kind = Literal["container", "truck", "clutter"]


def uniforms(*key: object) -> tuple[float, ...]:
    """16 numbers in [0, 1) that depend on nothing but `key`."""
    digest = blake2b("/".join(map(str, key)).encode(), digest_size=64).digest()
    return tuple(value / 2**32 for value in struct.unpack("<16I", digest))


@dataclass(frozen=True, slots=True)
class YardWorld:
    """One simulated yard: four cameras with `day_frames` frames a day each, for `days` days or for ever, and a drift.

    drift_from: the day, as a number from 0.0, from which the drift holds: fog becomes frequent and new kinds of
    containers and trucks arrive. None: never. What already stands in the yard at that moment stays as it is.
    first_hour: hour of the day of frame 0; it drives the light, never what stands where.
    """

    seed: int
    day_frames: int = 500
    days: float | None = None
    drift_from: float | None = 1.5
    first_hour: float = 0.0

    def __post_init__(self) -> None:
        if self.seed < 0 or self.day_frames < 1 or (self.days is not None and self.days <= 0):
            raise SettingsError(
                f"yard: seed ({self.seed}) must be 0 or more, day_frames ({self.day_frames}) 1 or more, "
                f"days ({self.days}) above 0"
            )

    @property
    def frames(self) -> int | None:
        """Frames of each camera until the world ends; None: it does not."""
        return None if self.days is None else round(self.days * self.day_frames)

    def is_after_drift(self, index: float) -> bool:
        return self.drift_from is not None and index >= self.drift_from * self.day_frames


@dataclass(frozen=True, slots=True)
class Tenant:
    """One thing that stands in a bay for some frames.

    x, y: metres on the ground, the camera's mast at the origin, y away from it. yaw: radians. length: metres.
    body: what a truck pulls. load: the container that stands on a truck, or second in a stack.
    """

    kind: Kind
    style: str
    x: float
    y: float
    yaw: float
    length: float
    variant: int
    body: Literal["none", "flat", "box"] = "none"
    load: Tenant | None = field(default=None)


def layout(world: YardWorld, camera: int) -> CameraLayout:
    """What never moves: the camera's pose, its bays and the fixed structures around them."""
    if not 0 <= camera < CAMERAS:
        raise SettingsError(f"yard: there is no camera {camera}, the yard has cameras 0 to {CAMERAS - 1}")
    return layout_of(world.seed, camera)


def tenants(world: YardWorld, camera: int, index: int) -> tuple[Tenant, ...]:
    """Everything that comes and goes, as it stands at frame `index`."""
    if _is_quiet(world.seed, camera, index):
        return tuple(t for t in _occupants(world, camera, index) if t.kind == "clutter")
    return _occupants(world, camera, index)


def _is_quiet(seed: int, camera: int, index: int) -> bool:
    offset = int(uniforms(seed, camera, "quiet")[0] * QUIET_FRAMES)
    return uniforms(seed, camera, "quiet", (index + offset) // QUIET_FRAMES)[1] < QUIET_SHARE


def _occupants(world: YardWorld, camera: int, index: int) -> tuple[Tenant, ...]:
    found = []
    for number, bay in enumerate(layout(world, camera).bays):
        occupant = _occupant(world, camera, number, bay, index)
        if occupant is not None:
            found.append(occupant)
    return tuple(found)


def _occupant(world: YardWorld, camera: int, number: int, bay: Bay, index: int) -> Tenant | None:
    """Who stands in a bay: each stretch of `bay.period` frames has at most one stay, somewhere inside it."""
    offset = int(uniforms(world.seed, camera, number, "offset")[0] * bay.period)
    stretch, position = divmod(index + offset, bay.period)
    draw = uniforms(world.seed, camera, number, stretch, "stay")
    if draw[0] >= bay.occupancy:
        return None
    arrival = int(draw[1] * bay.period * 0.4)
    stay = max(2, round(bay.period * (0.4 + 0.4 * draw[2])))
    if not arrival <= position < arrival + stay:
        return None
    after_drift = world.is_after_drift(stretch * bay.period - offset + arrival)
    tenant, stacks = _tenant(world.seed, camera, number, stretch, bay, after_drift)
    second_is_there = arrival + 1 <= position < arrival + stay - 1  # it comes later and leaves first
    return tenant if tenant.load is None or not stacks or second_is_there else _without_load(tenant)


def _without_load(tenant: Tenant) -> Tenant:
    return Tenant(tenant.kind, tenant.style, tenant.x, tenant.y, tenant.yaw, tenant.length, tenant.variant, tenant.body)


@lru_cache(maxsize=4096)
def _tenant(seed: int, camera: int, number: int, stretch: int, bay: Bay, after_drift: bool) -> tuple[Tenant, bool]:
    """The tenant of one stay, and whether its load is the second of a stack."""
    draw = uniforms(seed, camera, number, stretch, "tenant")
    if bay.kind == "truck":
        return _truck(draw, bay, after_drift), False
    if bay.kind == "clutter":
        style = ("van", "crates", "skip", "generator")[int(draw[0] * 4)]
        return Tenant("clutter", style, bay.x, bay.y, bay.yaw + (draw[1] - 0.5) * 0.8, 0.0, int(draw[2] * 8)), False
    length = 12.19 if draw[1] < 0.25 and bay.room >= 13 else 6.06
    slide = (draw[2] - 0.5) * max(0.0, bay.room - length - 1)
    x, y = bay.along(slide, (draw[3] - 0.5) * 0.5)
    turned = 3.14159265 if draw[4] < 0.5 else 0.0
    yaw = bay.yaw + (draw[5] - 0.5) * 0.08 + turned
    second = None
    if draw[6] < 0.22:
        second = Tenant("container", _livery(draw[7], draw[8], after_drift), x, y, yaw, length, int(draw[9] * 8))
    style = _livery(draw[10], draw[11], after_drift)
    return Tenant("container", style, x, y, yaw, length, int(draw[12] * 8), load=second), True


def _truck(draw: tuple[float, ...], bay: Bay, after_drift: bool) -> Tenant:
    x, y = bay.along((draw[1] - 0.5) * bay.room, (draw[2] - 0.5) * 0.6)
    yaw = bay.yaw + (draw[3] - 0.5) * 0.12
    new = after_drift and draw[4] < SHARE_OF_NEW_KINDS
    styles = TRUCK_LIVERIES_AFTER_DRIFT if new else TRUCK_LIVERIES
    style, variant = styles[int(draw[5] * len(styles))], int(draw[6] * 8)
    if draw[7] < 0.2:
        return Tenant("truck", style, x, y, yaw, 4.4, variant)
    if draw[7] < 0.5:
        return Tenant("truck", style, x, y, yaw, 9.4, variant, "box")
    load = None
    if draw[7] < 0.8:
        load = Tenant("container", _livery(draw[8], draw[9], after_drift), x, y, yaw, 6.06, int(draw[10] * 8))
    return Tenant("truck", style, x, y, yaw, 9.6, variant, "flat", load)


def _livery(which: float, new: float, after_drift: bool) -> str:
    fresh = after_drift and new < SHARE_OF_NEW_KINDS
    liveries = CONTAINER_LIVERIES_AFTER_DRIFT if fresh else CONTAINER_LIVERIES
    return liveries[int(which * len(liveries))]
