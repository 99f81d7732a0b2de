"""The panel Loop: where every batch is, what is live, what was suggested, and how forecasts came true."""

from __future__ import annotations

import base64
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

BATCH_COLUMNS = {"batch": "Batch", "state": "State", "done": "Done", "assignee": "For"}
FORECAST_COLUMNS = {"suggestion": "Suggestion", "figure": "Figure", "forecast": "Forecast", "true": "Came true"}


class Loop(foo.Panel):
    @property
    def config(self) -> foo.PanelConfig:
        return foo.PanelConfig(
            name="loop",
            label="Loop",
            icon="sync",
            allow_multiple=False,
            help_markdown="The state of the loop, as the bucket says. Nothing here changes anything.",
        )

    def on_load(self, ctx: Any) -> None:
        self.look(ctx)

    def look(self, ctx: Any) -> None:
        """Read the bucket, and show what is there now."""
        from flows import in_the_app
        from tasks.core.errors import EdgeloopError

        try:
            shown = what_is_shown(in_the_app.project_of_app())
        except EdgeloopError as error:
            shown = {"problem": str(error)}
        for name, value in {"problem": "", "words": "", "batches": [], "forecasts": [], "plot": "", **shown}.items():
            ctx.panel.set_state(name, value)

    def render(self, ctx: Any) -> types.Property:
        panel = types.Object()
        panel.btn("look", label="Look again", on_click=self.look, icon="refresh")
        if problem := ctx.panel.get_state("problem"):
            panel.view("refused", types.Error(label="The loop cannot be read", description=problem))
            return types.Property(panel, view=types.GridView(align_x="left", gap=2, padding=2))
        panel.md(ctx.panel.get_state("words") or "", name="told")
        if ctx.panel.get_state("batches"):
            table(panel, "batches", BATCH_COLUMNS)
        if ctx.panel.get_state("plot"):
            panel.img("plot", width="100%", alt_text="What the suggestion is made from and what it is worth")
        if ctx.panel.get_state("forecasts"):
            panel.md("**Forecast against truth**", name="forecasts_title")
            table(panel, "forecasts", FORECAST_COLUMNS)
        return types.Property(panel, view=types.GridView(align_x="left", gap=2, padding=2, width=100))


def table(panel: types.Object, name: str, columns: dict[str, str]) -> None:
    view = types.TableView()
    for key, label in columns.items():
        view.add_column(key, label=label)
    panel.list(name, types.Object(), view=view)


def what_is_shown(project: Any) -> dict[str, Any]:
    """The panel's words, tables and picture. Raises EdgeloopError."""
    from flows.in_the_app import suggestion_picture
    from flows.suggest import figure, spoken
    from tasks.loop_state import loop_state
    from tasks.suggest import scored_forecasts

    state = loop_state(project)
    picture = suggestion_picture(project, state)
    scored = scored_forecasts(project, state.turn.forecast_scores) if state.turn else []
    return {
        "words": words(project, state),
        "batches": [batch_row(batch) for batch in state.batches],
        "plot": f"data:image/png;base64,{base64.b64encode(picture).decode()}" if picture else "",
        "forecasts": [
            {
                "suggestion": row.suggestion,
                "figure": spoken(row.figure),
                "forecast": figure(row.forecast),
                "true": f"{row.came_true:.3g}, {'inside' if row.inside else 'outside'}",
            }
            for row in scored
        ],
    }


def batch_row(batch: Any) -> dict[str, str]:
    skipped = f", {batch.skipped} skipped" if batch.skipped else ""
    done = "" if batch.problem else f"{batch.done} of {batch.images}{skipped}"
    return {"batch": batch.batch_id, "state": batch.problem or batch.state, "done": done, "assignee": batch.assignee}


def words(project: Any, state: Any) -> str:
    """What is live, what is suggested, and what the loop waits for."""
    turn = state.turn
    if turn is None:
        return f"**Project** {project.project}\n\nThere was no turn yet: `edgeloop loop` takes the first one."
    when = f", {turn.finished_at:%Y-%m-%d %H:%M} UTC" if turn.finished_at else ", not finished"
    model = "none yet (stub)" if turn.live_model == "stub" else f"`{turn.live_model}`"
    lines = [
        f"**Project** {project.project}",
        f"**Turn** {turn.number}{when}",
        f"**Live model** {model}, release {turn.release_number}",
        f"**Suggestion** {'`' + turn.suggestion + '`: ' if turn.suggestion else ''}{state.suggestion_state}",
        *(f"**Waits for** {line}" for line in turn.waits_for),
    ]
    return "\n\n".join(lines)
