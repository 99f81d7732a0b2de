"""The yard through a camera: pixels of a frame, and the exact ground truth of the same frame.

What counts as ground truth
- Classes `container` and `truck`. A container on a truck has its own box; the truck's box spans cab, chassis and load.
- A box spans the visible pixels. Fog and darkness hide nothing from the truth.
- An object of which less than a quarter is visible (the rest hidden by others or outside the picture), or that is less
  than 10 pixels long or 4 pixels high or wide, is not ground truth.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.simulation.background import Background, background_of
from tasks.adapters.simulation.layout import HEIGHT, WIDTH, Pose
from tasks.adapters.simulation.light import Light, light_at
from tasks.adapters.simulation.painting import draw_outline, draw_shadows, draw_thing, extent
from tasks.adapters.simulation.shapes import Thing, back_to_front, thing_of
from tasks.adapters.simulation.world import YardWorld, layout, tenants, uniforms
from tasks.core.entities import LabelBox

MINIMUM_VISIBLE = 0.25
MINIMUM_LONG_SIDE, MINIMUM_SHORT_SIDE = 10, 4  # pixels


def render(world: YardWorld, camera: int, index: int) -> NDArray[np.uint8]:
    """The picture of one frame: (256, 320, 3) uint8, BGR."""
    pose, background, light = (
        layout(world, camera).pose,
        background_of(world.seed, camera),
        light_at(world, camera, index),
    )
    things = _things(world, camera, index, background)
    picture = background.pixels.copy()
    draw_shadows(picture, pose, things, light)
    for thing in things:
        draw_thing(picture, pose, thing, light)
    small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    depth = _depth(pose, background, things)
    lit = _lit(small.astype(np.float32), background, light)
    if light.daylight < 0.6:
        _glow(lit, pose, things, 1 - light.daylight)
    foggy = _in_fog(lit, depth, light)
    foggy += _sensor_noise(world, camera, index) * (1.6 + 2.6 * (1 - light.daylight))
    return np.clip(foggy, 0, 255).astype(np.uint8)


def ground_truth(world: YardWorld, camera: int, index: int) -> tuple[LabelBox, ...]:
    """The boxes of one frame, in pixels of `render`'s picture."""
    pose, background = layout(world, camera).pose, background_of(world.seed, camera)
    things = _things(world, camera, index, background)
    visible = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, thing in enumerate(things):
        draw_outline(visible, pose, thing, (2 * number + 1, 2 * number + 2))
    boxes = []
    for number, thing in enumerate(things):
        if thing.tenant is None or thing.tenant.kind == "clutter":
            continue
        own, load = 2 * number + 1, 2 * number + 2
        is_truck = thing.tenant.kind == "truck"
        boxes.append(_box(visible, pose, thing, thing.tenant.kind, (own, load) if is_truck else (own,)))
        if thing.tenant.load is not None:
            boxes.append(_box(visible, pose, thing, "container", (load,)))
    return tuple(box for box in boxes if box is not None)


def _box(
    visible: NDArray[np.uint8], pose: Pose, thing: Thing, class_name: str, values: tuple[int, ...]
) -> LabelBox | None:
    """The box around the pixels that show one object, or None where too little of it shows."""
    owners = tuple((value - 1) % 2 for value in values)
    whole = extent(pose, thing, owners)
    mask = (visible == values[0]) if len(values) == 1 else (visible == values[0]) | (visible == values[1])
    seen = int(np.count_nonzero(mask))
    if whole is None or seen == 0:
        return None
    alone = np.zeros_like(visible)
    draw_outline(alone, pose, thing, (int(0 in owners), int(1 in owners)))
    inside = np.clip(whole, 0, (WIDTH, HEIGHT, WIDTH, HEIGHT))
    share_inside = np.prod(inside[2:] - inside[:2]) / np.prod(whole[2:] - whole[:2])
    if seen / max(1, int(alone.sum())) * share_inside < MINIMUM_VISIBLE:
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    sides = sorted((right - left, bottom - top))
    if sides[0] < MINIMUM_SHORT_SIDE or sides[1] < MINIMUM_LONG_SIDE:
        return None
    return LabelBox(class_name=class_name, xyxy=(float(left), float(top), float(right), float(bottom)))


def _things(world: YardWorld, camera: int, index: int, background: Background) -> list[Thing]:
    """All that stands in view, in the order to draw it."""
    return list(_ordered(background.things, tuple(thing_of(t) for t in tenants(world, camera, index))))


@lru_cache(maxsize=64)
def _ordered(fixed: tuple[Thing, ...], moving: tuple[Thing, ...]) -> tuple[Thing, ...]:
    return tuple(back_to_front([*fixed, *moving]))


def _depth(pose: Pose, background: Background, things: list[Thing]) -> NDArray[np.float32]:
    """How far each pixel is, metres: the ground's distance, or that of the thing in front of it."""
    numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
    distances = np.zeros(256, np.float32)
    for number, thing in enumerate(things, start=1):
        distances[number] = sum(math.hypot(x, y) for x, y in thing.footprint) / 4
        draw_outline(numbers, pose, thing, (number, number))
    return np.where(numbers > 0, distances[numbers], background.depth)


def _lit(picture: NDArray[np.float32], background: Background, light: Light) -> NDArray[np.float32]:
    """Day colours under the light of the hour: warm at dusk, blue at night with warm pools under the lamps."""
    ambient = (0.2 + 0.8 * light.daylight) * light.exposure
    cool = 1 - light.daylight
    tint = np.array((1 + 0.22 * cool - 0.2 * light.dusk, 1 - 0.02 * light.dusk, 1 - 0.14 * cool + 0.18 * light.dusk))
    gain = background.vignette * (ambient * tint).astype(np.float32)
    if cool > 0.05:
        lamps = (background.pools * (0.62 * cool))[:, :, None] * np.array((0.72, 0.94, 1.1), np.float32)
        gain = gain + lamps - background.sky[:, :, None] * np.float32(0.1 * cool)
    return np.maximum(picture * gain, 0)


def _in_fog(picture: NDArray[np.float32], depth: NDArray[np.float32], light: Light) -> NDArray[np.float32]:
    passing = np.exp(depth * np.float32(-light.fog))[:, :, None]
    grey = np.array((206, 206, 204), np.float32) * np.float32(0.26 + 0.74 * light.daylight)
    return picture * passing + grey * (1 - passing)


def _glow(picture: NDArray[np.float32], pose: Pose, things: list[Thing], strength: float) -> None:
    """Headlights that are turned towards the camera."""
    for thing in things:
        if not thing.lamps or thing.tenant is None:
            continue
        x, y, _ = thing.lamps[0]
        facing = -(math.cos(thing.tenant.yaw) * x + math.sin(thing.tenant.yaw) * y) / math.hypot(x, y)
        if facing < 0.2:
            continue
        for u, v, depth in pose.project(np.array(thing.lamps)):
            radius = max(1.0, 26.0 / depth)
            reach = int(3 * radius) + 2
            left, top, right, bottom = int(u) - reach, int(v) - reach, int(u) + reach + 1, int(v) + reach + 1
            region = picture[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
            if region.size == 0:
                continue
            rows = np.arange(region.shape[0], dtype=np.float32) + max(0, top) - v
            columns = np.arange(region.shape[1], dtype=np.float32) + max(0, left) - u
            spot = np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * radius**2))
            region += spot[:, :, None] * np.array((170, 210, 230), np.float32) * np.float32(strength * facing)


@lru_cache(maxsize=1)
def _noise_tile() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((HEIGHT + 64, WIDTH + 64, 3)).astype(np.float32)


def _sensor_noise(world: YardWorld, camera: int, index: int) -> NDArray[np.float32]:
    """Unit noise that differs from frame to frame: a window of one tile, which is far cheaper than fresh numbers."""
    row, column = (int(v * 64) for v in uniforms(world.seed, camera, index, "noise")[:2])
    return _noise_tile()[row : row + HEIGHT, column : column + WIDTH]
