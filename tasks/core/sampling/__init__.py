"""Which frames are worth a human's time? `Sampler.decide` answers for one frame; SAMPLING.md explains every field.

The collector sees every frame, people can label perhaps one in a thousand. Every frame is held against every
strategy, each with its own seeded draw; what is kept carries the probability with which it was kept.
"""

from tasks.core.sampling.draws import draws_of
from tasks.core.sampling.observation import CLASSIFICATION, DETECTION_TASKS, Decision, Observation, Settled
from tasks.core.sampling.sampler import Sampler
from tasks.core.sampling.state import SamplerState

__all__ = [
    "CLASSIFICATION",
    "DETECTION_TASKS",
    "Decision",
    "Observation",
    "Sampler",
    "SamplerState",
    "Settled",
    "draws_of",
]
