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
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.simulation.background import Background, background_of
from tasks.adapters.simulation.layout import HEIGHT, WIDTH, Pose
from tasks.adapters.simulation.light import Light, light_at
from tasks.adapters.simulation.painting import draw_outline, draw_shadows, draw_thing, view_of
from tasks.adapters.simulation.shapes import Thing, back_to_front, thing_of
from tasks.adapters.simulation.world import YardWorld, layout, tenants, uniforms
from tasks.core.entities import LabelBox

FRAME_SIZE = (HEIGHT, WIDTH)  # pixels of a frame
MINIMUM_VISIBLE = 0.25
MINIMUM_LONG_SIDE, MINIMUM_SHORT_SIDE = 10, 4  # pixels


def render(world: YardWorld, camera: int, index: int) -> NDArray[np.uint8]:
    """The picture of one frame: (256, 320, 3) uint8, BGR."""
    pose, background = layout(world, camera).pose, background_of(world.seed, camera)
    light, things = light_at(world, camera, index), _things(world, camera, index, background)
    picture = background.pixels.copy()
    draw_shadows(picture, pose, things, light)
    for thing in things:
        draw_thing(picture, pose, thing, light)
    small = np.asarray(cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.float32)
    lit = cv2.multiply(small, _gain(background, light))
    if light.daylight < 0.6:
        _glow(lit, pose, things, 1 - light.daylight)
    passing = _passing(pose, background, things, light)
    fog = cv2.scaleAdd(passing, -_fog_grey(light), np.full_like(passing, _fog_grey(light)))
    noise = _sensor_noise(world, camera, index) * np.float32(1.6 + 2.6 * (1 - light.daylight))
    return np.asarray(cv2.add(cv2.multiply(lit, passing), cv2.add(fog, noise), dtype=cv2.CV_8U), np.uint8)


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
    view, which = view_of(pose, thing), 2 if len(values) == 2 else (values[0] - 1) % 2
    whole = view.extents[which]
    mask = (visible >= values[0]) & (visible <= values[-1])
    seen = int(np.count_nonzero(mask))
    if whole is None or seen == 0:
        return None
    inside = np.clip(whole, 0, (WIDTH, HEIGHT, WIDTH, HEIGHT))
    share_inside = np.prod(inside[2:] - inside[:2]) / np.prod(whole[2:] - whole[:2])
    if seen / max(1, view.areas[which]) * share_inside < MINIMUM_VISIBLE:
        return None
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    if min(width, height) < MINIMUM_SHORT_SIDE or max(width, height) < MINIMUM_LONG_SIDE:
        return None
    return LabelBox(class_name=class_name, xyxy=(float(left), float(top), float(left + width), float(top + height)))


def _things(world: YardWorld, camera: int, index: int, background: Background) -> list[Thing]:
    """All that stands in view, in the order to draw it."""
    return list(_ordered(background.things, tuple(thing_of(t) for t in tenants(world, camera, index))))


@lru_cache(maxsize=64)
def _ordered(fixed: tuple[Thing, ...], moving: tuple[Thing, ...]) -> tuple[Thing, ...]:
    return tuple(back_to_front([*fixed, *moving]))


def _gain(background: Background, light: Light) -> NDArray[np.float32]:
    """Day colours under the light of the hour: warm at dusk, blue at night with warm pools under the lamps."""
    ambient = (0.2 + 0.8 * light.daylight) * light.exposure * 1.06
    cool = 1 - light.daylight
    tint = (1 + 0.22 * cool - 0.2 * light.dusk, 1 - 0.02 * light.dusk, 1 - 0.14 * cool + 0.18 * light.dusk)
    lamps = (0.72, 0.94, 1.1)
    gain = np.empty((HEIGHT, WIDTH, 3), np.float32)
    for channel in range(3):
        lit = background.vignette * np.float32(ambient * tint[channel])
        if cool > 0.05:
            lit += background.pools * np.float32(0.62 * cool * lamps[channel]) - background.sky * np.float32(0.1 * cool)
        gain[:, :, channel] = lit
    return gain


def _passing(pose: Pose, background: Background, things: list[Thing], light: Light) -> NDArray[np.float32]:
    """Share of the light that comes through the air, (H, W, 3): by the distance of the ground or what stands on it."""
    depth = background.depth.copy()
    for thing in things:
        distance = sum(math.hypot(x, y) for x, y in thing.footprint) / 4
        draw_outline(depth, pose, thing, (distance, distance))
    passing = cv2.exp(depth * np.float32(-light.fog))
    return np.asarray(cv2.merge([passing, passing, passing]), np.float32)


def _fog_grey(light: Light) -> float:
    return 205.0 * (0.26 + 0.74 * light.daylight)


def _glow(picture: NDArray[Any], pose: Pose, things: list[Thing], strength: float) -> None:
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
