"""What a miss and a false alarm cost, where operating thresholds are to be chosen by that."""

from __future__ import annotations

from pydantic import Field, model_validator

from tasks.core.settings.base import Settings


class ClassCosts(Settings):
    """What is different for one class; what it does not name is as for all."""

    miss: float | None = Field(None, ge=0, allow_inf_nan=False)
    false_alarm: float | None = Field(None, ge=0, allow_inf_nan=False)


class Costs(Settings):
    """Costs in any unit, the same for all: an operating threshold depends on their ratio alone."""

    miss: float = Field(ge=0, allow_inf_nan=False, description="of an object that is not reported")
    false_alarm: float = Field(ge=0, allow_inf_nan=False, description="of a detection that is none")
    classes: dict[str, ClassCosts] = Field({}, description="of single classes, by name")

    @model_validator(mode="after")
    def _something_costs(self) -> Costs:
        if not self.miss and not self.false_alarm:
            raise ValueError("a miss and a false alarm that both cost 0 leave nothing to choose by: give one a cost")
        for name in self.classes:
            if not any(self.of(name)):
                raise ValueError(f"both costs of class {name!r} are 0, which leaves nothing to choose by: give one")
        return self

    def of(self, class_name: str) -> tuple[float, float]:
        """Cost of a miss and of a false alarm of a class."""
        own = self.classes.get(class_name, ClassCosts())
        return (
            self.miss if own.miss is None else own.miss,
            self.false_alarm if own.false_alarm is None else own.false_alarm,
        )

    def in_words(self) -> str:
        """`10 a miss, 1 a false alarm; truck 50 and 1`."""
        own = "".join(f"; {name} {miss:g} and {alarm:g}" for name in self.classes for miss, alarm in [self.of(name)])
        return f"{self.miss:g} a miss, {self.false_alarm:g} a false alarm{own}"
