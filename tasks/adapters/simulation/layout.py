"""Where a camera hangs and what it looks at: its pose, the bays of its part of the yard, the fixed structures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 256  # pixels of a frame

BayKind = Literal["container", "truck", "clutter"]


@dataclass(frozen=True, slots=True)
class Pose:
    """A pinhole camera on a mast at the origin, looking along +y and down.

    height: metres above the ground. pitch: radians below the horizon. focal: pixels.
    """

    height: float
    pitch: float
    focal: float

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) metres -> (n, 3): u and v in pixels, and the depth in metres along the optical axis."""
        sin, cos = math.sin(self.pitch), math.cos(self.pitch)
        z = points[:, 2] - self.height
        depth = points[:, 1] * cos - z * sin
        up = points[:, 1] * sin + z * cos
        scale = self.focal / np.maximum(depth, 0.1)
        return np.stack([WIDTH / 2 + points[:, 0] * scale, HEIGHT / 2 - up * scale, depth], axis=1)


@dataclass(frozen=True, slots=True)
class Bay:
    """A place where something may stand: its centre, its direction, and how busy it is.

    room: metres along the bay. period: frames that hold at most one stay. occupancy: share of periods with a stay.
    """

    kind: BayKind
    x: float
    y: float
    yaw: float
    room: float
    period: int
    occupancy: float

    def along(self, forward: float, left: float) -> tuple[float, float]:
        """The ground point `forward` and `left` metres from the centre, in the direction of the bay."""
        sin, cos = math.sin(self.yaw), math.cos(self.yaw)
        return self.x + forward * cos - left * sin, self.y + forward * sin + left * cos


@dataclass(frozen=True, slots=True)
class Structure:
    """Something that never moves and is not looked for: `hut`, `pole`, `fence`, `barrier`, `crates`, `sign`."""

    style: str
    x: float
    y: float
    yaw: float
    variant: int


@dataclass(frozen=True, slots=True)
class CameraLayout:
    """One camera's part of the yard. yaw: direction of its lanes. ground: `asphalt`, `concrete` or `gravel`."""

    pose: Pose
    yaw: float
    origin: tuple[float, float]
    ground: str
    north: float
    bays: tuple[Bay, ...]
    structures: tuple[Structure, ...]
    lanes: tuple[float, ...]
    rows: tuple[float, ...]

    def place(self, forward: float, left: float) -> tuple[float, float]:
        """Ground point from the yard's own grid: `forward` along its lanes, `left` across them, metres."""
        sin, cos = math.sin(self.yaw), math.cos(self.yaw)
        return self.origin[0] + forward * cos - left * sin, self.origin[1] + forward * sin + left * cos


VIEWS = (  # height m, pitch deg, focal px, direction of the lanes deg
    (6.8, 12.0, 235.0, 62.0),
    (9.0, 16.5, 245.0, 6.0),
    (7.6, 14.0, 225.0, 33.0),
    (15.0, 25.0, 262.0, -40.0),
)
ROWS = (-14.0, 0.5, 4.8, 18.0, 33.0)  # metres across: rows of container bays
LANES = (-8.5, -4.9, 9.6, 13.2, 25.0)  # metres across: lanes for trucks


@lru_cache(maxsize=256)
def layout_of(seed: int, camera: int) -> CameraLayout:
    """The layout of a camera; the same seed gives four views of different heights, directions and grounds."""
    random = np.random.default_rng([seed, camera, 77])
    height, pitch, focal, direction = VIEWS[(camera + seed) % len(VIEWS)]
    pose = Pose(
        height * random.uniform(0.88, 1.15),
        math.radians(pitch * random.uniform(0.92, 1.1)),
        focal * random.uniform(0.92, 1.08),
    )
    yaw = math.radians(direction + random.uniform(-9, 9)) * (1 if random.random() < 0.5 else -1)
    origin = (float(random.uniform(-3, 3)), float(random.uniform(25, 30)))
    grounds = ("asphalt", "concrete", "gravel", "asphalt")
    empty = CameraLayout(
        pose, yaw, origin, grounds[(camera + seed // 3) % 4], float(random.uniform(0, 6.28)), (), (), LANES, ROWS
    )
    bays = [
        *_bays(empty, random, "container", ROWS, spacing=14.2, wanted=7),
        *_bays(empty, random, "truck", LANES, spacing=17.0, wanted=4),
        *_bays(empty, random, "clutter", (-17.5, -11.3, 7.3, 15.6, 22.4, 28.0), spacing=9.0, wanted=3),
    ]
    structures = _structures(empty, random)
    return CameraLayout(pose, yaw, origin, empty.ground, empty.north, tuple(bays), structures, LANES, ROWS)


def _bays(
    layout: CameraLayout,
    random: np.random.Generator,
    kind: BayKind,
    across: tuple[float, ...],
    spacing: float,
    wanted: int,
) -> list[Bay]:
    """`wanted` bays of a kind among those that the camera sees well, spread over near and far."""
    shift = random.uniform(0, spacing)
    seen = []
    for left in across:
        for step in range(-7, 8):
            x, y = layout.place(step * spacing + shift, left)
            u, v, depth = layout.pose.project(np.array([[x, y, 1.2]]))[0]
            if 14 < u < WIDTH - 14 and 24 < v < HEIGHT - 22 and (16 if kind != "truck" else 20) < depth < 80:
                seen.append((depth, x, y, left))
    seen.sort()
    near, far = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    chosen = [near[i] for i in random.permutation(len(near))[: wanted - wanted // 2]]
    chosen += [far[i] for i in random.permutation(len(far))[: wanted - len(chosen)]]
    return [_bay(layout, random, kind, x, y, left, spacing) for _, x, y, left in chosen]


def _bay(
    layout: CameraLayout, random: np.random.Generator, kind: BayKind, x: float, y: float, left: float, spacing: float
) -> Bay:
    if kind == "container":
        room = spacing - 0.8 if math.hypot(x, y) > 25 else 9.0  # no long container close to the camera
        return Bay(kind, x, y, layout.yaw, room, int(random.integers(10, 19)), float(random.uniform(0.38, 0.68)))
    if kind == "truck":
        oncoming = math.pi if LANES.index(left) % 2 else 0.0  # neighbouring lanes run in opposite directions
        return Bay(kind, x, y, layout.yaw + oncoming, 5.0, int(random.integers(5, 9)), float(random.uniform(0.4, 0.7)))
    return Bay(kind, x, y, layout.yaw, 4.0, int(random.integers(25, 60)), float(random.uniform(0.38, 0.68)))


def _structures(layout: CameraLayout, random: np.random.Generator) -> tuple[Structure, ...]:
    found = []
    for left, styles in ((-20.5, ("hut", "pole")), (21.5, ("pole", "sign")), (40.0, ("hut", "pole", "crates"))):
        for step in range(-3, 4):
            style = styles[int(random.integers(len(styles)))]
            forward = step * 21.0 + random.uniform(-4, 4)
            if random.random() < 0.75:
                found.append(Structure(style, *layout.place(forward, left), layout.yaw, int(random.integers(8))))
    for step in range(-8, 9):
        found.append(Structure("fence", *layout.place(step * 12.0, 47.0), layout.yaw, 0))
        if random.random() < 0.3:
            found.append(Structure("barrier", *layout.place(step * 9.0, 7.2), layout.yaw, int(random.integers(2))))
    return tuple(s for s in found if 9 < _depth(layout.pose, s) < 140)


def _depth(pose: Pose, structure: Structure) -> float:
    return float(pose.project(np.array([[structure.x, structure.y, 0.0]]))[0, 2])
