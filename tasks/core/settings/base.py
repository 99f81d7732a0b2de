"""What all settings have in common: strict models, and errors of one line that name the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from tasks.core.errors import SettingsError

Fraction = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(ge=1)]
Thresholds = dict[str, Fraction]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9\-_:/.\[\]<>{}@]{1,64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,63}$")]

DEFAULT_THRESHOLD = 0.5  # the operating threshold of a class that has none of its own


class Settings(BaseModel):
    """Base of all settings: an unknown key is a typo, and a typo must not switch anything off in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def validated(model: type[Any], data: Any, where: str) -> Any:
    """`data` as `model`; a SettingsError of one line that names `where`, the field and what is wrong with it."""
    if not isinstance(data, Mapping):
        raise SettingsError(f"{where}: expected a mapping of settings, got {type(data).__name__}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_problem_line(problem["type"], problem["loc"], problem["msg"], data) for problem in error.errors()]
        raise SettingsError(f"{where}: " + "; ".join(problems)) from None


def _problem_line(kind: str, location: Sequence[int | str], message: str, data: Any) -> str:
    """One problem that pydantic found, with the path of its field in front."""
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        location = (*location, "type")
        message = "Field required" if kind == "union_tag_not_found" else f"unknown type: {message}"
    path = _field_path(location, data)
    message = message.removeprefix("Value error, ")
    return f"{path}: {message}" if path else message


def _field_path(location: Sequence[int | str], data: Any) -> str:
    """`sampling_strategies[1] 'hard': epsilon`, from pydantic's location and the data that it was found in."""
    path, here = "", data
    for part in location:
        if isinstance(part, str) and isinstance(here, Mapping) and part not in here and part == here.get("type"):
            continue  # pydantic names the member of a union, which is no field
        if isinstance(part, int):
            here = here[part] if isinstance(here, (list, tuple)) and part < len(here) else None
            name = here.get("name") if isinstance(here, Mapping) else None
            path += f"[{part}]" + (f" {name!r}" if isinstance(name, str) else "")
        else:
            here = here.get(part) if isinstance(here, Mapping) else None
            separator = "" if not path else ": " if path.endswith(("]", "'")) else "."
            path += f"{separator}{part}"
    return path
