"""A Label Studio project's webhook: it calls `edgeloop wait --listen` when somebody has labelled. A hint, no more."""

from __future__ import annotations

from tasks.adapters.labelling.labelstudio_client import LabelStudio
from tasks.adapters.secrets import secret
from tasks.core.errors import SettingsError

TOKEN_VARIABLE = "EDGELOOP_WEBHOOK_TOKEN"
HEADER = "X-Edgeloop-Token"
SHORTEST = 16  # characters of a token
ACTIONS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")


def webhook_token(wanted_by: str) -> str:
    """The token that a hint brings along. Raises SettingsError where there is none, or one that can be guessed."""
    token = secret(TOKEN_VARIABLE) or ""
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or token != token.strip():
        raise SettingsError(
            f"{wanted_by}: set {TOKEN_VARIABLE} to {SHORTEST} or more plain characters (openssl rand -hex 16)"
        )
    return token


def ensure_webhook(server: LabelStudio, project: int, url: str) -> None:
    """Let a project call `url` with the token of today; one that does already is left as it is."""
    token = webhook_token("labelling.webhook_url")
    calling = [hook for hook in server.get("/api/webhooks/", project=project) if hook["url"] == url]
    if any(hook["headers"].get(HEADER) == token for hook in calling):
        return
    for hook in calling:
        server.delete(f"/api/webhooks/{hook['id']}/")
    hook = {"project": project, "url": url, "headers": {HEADER: token}, "actions": ACTIONS}
    server.post("/api/webhooks/", {**hook, "send_payload": False, "send_for_all_actions": False})
