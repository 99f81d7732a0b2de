"""Do the settings and the model speak of the same classes?"""

from __future__ import annotations

from collections.abc import Collection

from tasks.core.errors import ClassesDoNotOverlap
from tasks.core.settings import AnyStrategy, ExpectedMisses, SamplingSettings


def check_classes(settings: SamplingSettings, class_names: Collection[str], where: str, model: str) -> list[str]:
    """What the settings ask for and the model cannot see, a line for each strategy.

    class_names: that the model can see. where: the settings' name. Raises ClassesDoNotOverlap when the settings name
    classes, as selected, with weights or with thresholds, and the model has none of them.
    """
    of_strategies = {strategy.name: names_in(strategy) for strategy in settings.sampling_strategies}
    named = {name for names in of_strategies.values() for name in names} | set(settings.thresholds)
    if named and not named & set(class_names):
        raise ClassesDoNotOverlap(
            f"{where}: names {_listed(named)}, and {model} knows {_listed(class_names)}: "
            "pass the model that these settings were made for, or --model-classes"
        )
    unknown = {strategy: set(names) - set(class_names) for strategy, names in of_strategies.items()}
    return [
        f"{where}: strategy {strategy!r} looks for {_listed(names)}, which {model} does not know"
        for strategy, names in unknown.items()
        if names
    ]


def names_in(strategy: AnyStrategy) -> Collection[str]:
    """The classes that a strategy names; none where it takes all of them."""
    if isinstance(strategy, ExpectedMisses):
        return strategy.weights
    return getattr(strategy, "selected_class_names", None) or ()


def _listed(names: Collection[str], most: int = 12) -> str:
    """The names in order, the first of many."""
    shown = sorted(names)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more if shown else "none"
