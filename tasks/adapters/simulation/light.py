"""Hour and weather as numbers: how bright it is, where the sun stands, how far one sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tasks.adapters.simulation.world import YardWorld, uniforms

FOG_SHARE, FOG_SHARE_AFTER_DRIFT = 0.12, 0.5  # of the hours


@dataclass(frozen=True, slots=True)
class Light:
    """hour: 0 to 24. daylight: 0 at night to 1 by day. dusk: 1 at 6 and at 18, 0 two hours away from them.

    sun: azimuth and elevation, radians. shadow: 0 (overcast, night) to 1. fog: extinction per metre. exposure: gain.
    """

    hour: float
    daylight: float
    dusk: float
    sun: tuple[float, float]
    shadow: float
    fog: float
    exposure: float


def _smooth(value: float, low: float, high: float) -> float:
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    return share * share * (3 - 2 * share)


def light_at(world: YardWorld, camera: int, index: int) -> Light:
    """The light of one frame. The weather belongs to the yard and the hour, the exposure to the camera."""
    moment = world.first_hour + index * 24 / world.day_frames
    hour = moment % 24
    daylight = _smooth(hour, 5.0, 7.2) * (1 - _smooth(hour, 16.9, 19.2))
    dusk = max(0.0, 1 - abs(hour - 6) / 1.6, 1 - abs(hour - 18) / 1.6)
    elevation = max(0.2, math.sin(math.pi * (hour - 5.5) / 13)) * math.radians(58)
    azimuth = math.pi * (hour - 6) / 12
    now, later = (_weather(world, index, math.floor(moment) + step) for step in (0, 1))
    share = moment % 1
    fog = now[0] * (1 - share) + later[0] * share
    clouds = now[1] * (1 - share) + later[1] * share
    shadow = daylight * (1 - clouds) * math.exp(-fog * 80)
    exposure = 0.95 + 0.1 * uniforms(world.seed, camera, index, "exposure")[0]
    return Light(hour, daylight, dusk, (azimuth, elevation), shadow, fog, exposure)


def _weather(world: YardWorld, index: int, hour: int) -> tuple[float, float]:
    """Fog (extinction per metre) and cloud cover (0 to 1) of a full hour."""
    draw = uniforms(world.seed, "weather", hour)
    share = FOG_SHARE_AFTER_DRIFT if world.is_after_drift(index) else FOG_SHARE
    fog = 0.012 + 0.028 * draw[1] ** 1.5 if draw[0] < share else 0.0012
    return fog, min(1.0, max(0.0, 1.6 * draw[2] - 0.3))
