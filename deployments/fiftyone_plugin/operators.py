"""The operators. Each asks, does one thing, and says in words what came of it; an error is shown as a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

MARK = "edgeloop"  # key in a dataset's info: the batch that it is for


class Told(foo.Operator):
    """An operator whose result is sentences."""

    name, label, description, icon = "", "", "", ""

    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name=self.name,
            label=self.label,
            description=self.description,
            icon=self.icon,
            dynamic=True,
            view_target=False,
        )

    def resolve_output(self, ctx: Any) -> types.Property:
        outputs = types.Object()
        if problem := ctx.results.get("problem"):
            outputs.view("told", types.Error(label="Not done", description=problem))
        else:
            outputs.md(ctx.results.get("said", ""), name="told")
        return types.Property(outputs, view=types.View(label=self.label))


def tell(work: Callable[[Any], list[str]]) -> dict[str, str]:
    """What `work` says of the App's project, or the line of its error."""
    from flows import in_the_app
    from tasks.core.errors import EdgeloopError

    try:
        return {"said": in_the_app.lines_of(work(in_the_app.project_of_app()))}
    except EdgeloopError as error:
        return {"problem": str(error)}


def form(label: str, **more: Any) -> tuple[types.Object, types.View]:
    return types.Object(), types.View(label=label, **more)


class SubmitLabels(Told):
    name, label, icon = "submit_labels", "Submit labels", "check"
    description = "Check what is done of a batch, and hand it in"

    def resolve_input(self, ctx: Any) -> types.Property:
        inputs, view = form(self.label)
        batch = batch_of(ctx)
        if batch:
            inputs.md(f"Everything that is done in batch **{batch}** is checked and handed in.", name="what")
        else:
            choose_batch(inputs)
        return types.Property(inputs, view=view)

    def execute(self, ctx: Any) -> dict[str, str]:
        from flows import in_the_app

        return tell(lambda project: in_the_app.submit_labels(project, ctx.params.get("batch") or batch_of(ctx)))


def batch_of(ctx: Any) -> str:
    """The batch whose dataset is open; empty on any other dataset."""
    info = (ctx.dataset.info if ctx.dataset is not None else None) or {}
    return str((info.get(MARK) or {}).get("batch") or "")


def choose_batch(inputs: types.Object) -> None:
    from flows import in_the_app
    from tasks.core.errors import EdgeloopError

    try:
        batches = in_the_app.open_batches(in_the_app.project_of_app())
    except EdgeloopError as error:
        inputs.view("problem", types.Error(label="Not possible", description=str(error)))
        return
    if batches:
        inputs.enum("batch", batches, label="Batch", default=batches[0], required=True)
    else:
        inputs.view("problem", types.Warning(label="People have no batch", description="There is nothing to submit."))


class AcceptSuggestion(Told):
    name, label, icon = "accept_suggestion", "Accept suggestion", "thumb_up"
    description = "Let the suggested sampling settings go out with the next turn"

    def resolve_input(self, ctx: Any) -> types.Property:
        inputs, view = form(self.label)
        words = tell(state_of_suggestion)
        if "problem" in words:
            inputs.view("problem", types.Error(label="Not possible", description=words["problem"]))
        else:
            inputs.md(words["said"], name="what")
        return types.Property(inputs, view=view)

    def execute(self, ctx: Any) -> dict[str, str]:
        from flows import in_the_app

        return tell(in_the_app.accept_suggestion)


def state_of_suggestion(project: Any) -> list[str]:
    from tasks.adapters.report import suggestion_sentence
    from tasks.loop_state import loop_state

    state = loop_state(project)
    said = [suggestion_sentence(state.suggestion)] if state.suggestion else []
    return [*said, state.suggestion_state]


class SendToLabelling(Told):
    name, label, icon = "send_to_labelling", "Send to labelling", "send"
    description = "Ask people to label the selected images, or to look at them again"

    def resolve_input(self, ctx: Any) -> types.Property:
        inputs, view = form(self.label)
        count = len(ctx.selected)
        if count:
            inputs.md(f"**{count}** selected image{'s' if count > 1 else ''} become a batch of their own.", name="what")
        else:
            inputs.view(
                "problem", types.Warning(label="Nothing is selected", description="Select images in the grid first.")
            )
        return types.Property(inputs, view=view)

    def execute(self, ctx: Any) -> dict[str, str]:
        from flows import in_the_app

        picked: dict[str, list[str]] = {}
        for sample_id, batch in selected_samples(ctx):
            picked.setdefault(batch, []).append(sample_id)
        return tell(lambda project: in_the_app.send_selected(project, picked))


class ExplainFrame(Told):
    name, label, icon = "explain_frame", "Explain this frame", "help"
    description = "Why the device kept it: the strategy, its value against its limit, and how likely that was"

    def resolve_input(self, ctx: Any) -> types.Property:
        inputs, view = form(self.label)
        if not ctx.selected and not ctx.current_sample:
            inputs.view(
                "problem", types.Warning(label="No frame is chosen", description="Open or select one image first.")
            )
        else:
            inputs.md("Why was this frame kept?", name="what")
        return types.Property(inputs, view=view)

    def execute(self, ctx: Any) -> dict[str, str]:
        from flows import in_the_app

        sample_id, batch = next(iter(selected_samples(ctx)), ("", ""))
        return tell(lambda project: in_the_app.explain_frame(project, sample_id, batch))


def selected_samples(ctx: Any) -> list[tuple[str, str]]:
    """Sample id and batch of the open sample, else of the selected ones, also where patches are looked at."""
    ids = [ctx.current_sample] if ctx.current_sample else list(ctx.selected)
    if not ids or ctx.dataset is None:
        return []
    try:
        view = ctx.view.select(ids)
        own = view.values("sample_id") if ctx.view._is_patches else ids  # of patches: the document of their image
        documents = ctx.dataset.select(list(dict.fromkeys(own)))
    except ValueError:  # what is selected has been deleted since
        return []
    batch = batch_of(ctx)
    has_batch = ctx.dataset.has_field("batch")
    batches = documents.values("batch") if has_batch else [batch] * len(documents)
    return [(str(name), str(of or batch)) for name, of in zip(documents.values("sample_id"), batches)]
