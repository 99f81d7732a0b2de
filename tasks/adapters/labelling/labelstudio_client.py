"""A Label Studio server's REST API: bearers, pages, timeouts, and one clear line for what goes wrong.

A personal access token buys a bearer of five minutes. A call that comes back with 401 buys a new one and is made again,
once. Only calls that change nothing are repeated after an outage: what a lost answer has done, the next look tells.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import stamina

from tasks.core.errors import LabellingUnavailable, SettingsError

KNOWN_FROM, KNOWN_BELOW = (1, 23), (2, 0)  # versions of Label Studio whose API is the one that is called here
_ATTEMPTS = 4
_TRIED_FOR = 5.0  # s; a call that failed later is not repeated
_CONNECT_SECONDS = 5.0
_PAGE = 100  # tasks; with 20 boxes each a page is about 1 MB
_TOLD = 200  # characters of what a server said


class LabelStudioDown(LabellingUnavailable, ConnectionError):
    """The server does not answer, or is busy: an outage, which passes, so that tasks are tried again."""


class LabelStudio:
    """The API of the server at `url`, for whoever the personal access `token` belongs to.

    timeout: seconds until a call without an answer ends. Every method raises LabellingUnavailable, in one line without
    secrets; where a second try may help it is LabelStudioDown, which is a ConnectionError too.
    """

    def __init__(self, url: str, token: str, *, timeout: float = 60.0) -> None:
        self.url = checked_url(url)
        self._token = token
        self._bearer = ""
        self._http = httpx.Client(
            base_url=self.url,
            timeout=httpx.Timeout(timeout, connect=_CONNECT_SECONDS),
            trust_env=not is_loopback(self.url),  # a proxy of the environment does not reach this machine's own ports
        )

        weakref.finalize(self, self._http.close)  # with whoever used it: tasks end without a word

    def __repr__(self) -> str:
        return f"LabelStudio({self.url!r})"

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """The JSON of an address."""
        for attempt in stamina.retry_context(
            on=LabelStudioDown, attempts=_ATTEMPTS, timeout=_TRIED_FOR, wait_initial=0.2, wait_max=2.0
        ):
            with attempt:
                return self._json(self._authorised("GET", path, params=params))
        raise LabelStudioDown(f"{self.url}: was not asked at all")  # unreachable; stamina raises the last failure

    def post(self, path: str, body: Any, **params: Any) -> Any:
        """Send JSON. Not repeated: whether a lost answer has done something, the next look tells."""
        return self._json(self._authorised("POST", path, json=body, params=params))

    def upload(self, path: str, files: Sequence[Path], **params: Any) -> Any:
        """Send JPEG files under their own names."""
        parts = [(file.stem, (file.name, file.read_bytes(), "image/jpeg")) for file in files]
        return self._json(self._authorised("POST", path, files=parts, params=params))

    def delete(self, path: str) -> None:
        """Remove; no error when it is gone already."""
        self._authorised("DELETE", path, gone=True)

    def pages(self, path: str, key: str, **params: Any) -> Iterator[Mapping[str, Any]]:
        """The items below `key` of all pages of a list, in its order."""
        number, seen = 1, 0
        while True:
            page = self.get(path, page=number, page_size=_PAGE, **params)
            items = page[key]
            yield from items
            number, seen = number + 1, seen + len(items)
            if not items or seen >= page.get("total", page.get("count", 0)):
                return

    # --- inside ------------------------------------------------------------------------------------------------------

    def _authorised(self, method: str, path: str, *, gone: bool = False, **arguments: Any) -> httpx.Response:
        """One call with a bearer; a bearer that has run out is bought again, once."""
        if not self._bearer:
            self._refresh()
        answer = self._send(method, path, **arguments)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._refresh()
            answer = self._send(method, path, **arguments)
        if answer.is_success or (gone and answer.status_code == httpx.codes.NOT_FOUND):
            return answer
        raise self._refusal(method, path, answer)

    def _refresh(self) -> None:
        """A bearer for the token. The first one is also the moment to look at who answers."""
        if not self._bearer:
            self._check_version()
        answer = self._send("POST", "/api/token/refresh/", json={"refresh": self._token}, bearer=False)
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.BAD_REQUEST):
            raise LabellingUnavailable(
                f"{self.url}: refuses the access token: make a personal access token there (Account & Settings), and "
                f"put it into EDGELOOP_LABELSTUDIO_TOKEN or the file of labelling.labelstudio_token_file"
            )
        if not answer.is_success:
            raise self._refusal("POST", "/api/token/refresh/", answer)
        self._bearer = str(self._json(answer).get("access", ""))

    def _check_version(self) -> None:
        answer = self._send("GET", "/api/version", bearer=False)
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise self._refusal("GET", "/api/version", answer)
        release = release_of(answer)
        if not KNOWN_FROM <= release < KNOWN_BELOW:
            found = f"is Label Studio {'.'.join(map(str, release))}" if release else "is no Label Studio"
            first, last = (".".join(map(str, version)) for version in (KNOWN_FROM, KNOWN_BELOW))
            raise LabellingUnavailable(
                f"{self.url}: {found}, and this needs {first} or newer, below {last}: correct labelling.labelstudio_url"
            )

    def _send(self, method: str, path: str, *, bearer: bool = True, **arguments: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._bearer}"} if bearer else {}
        try:
            return self._http.request(method, path, headers=headers, **arguments)
        except httpx.TimeoutException:
            raise LabelStudioDown(
                f"{self.url}: Label Studio did not answer in time: look whether its machine is overloaded"
            ) from None
        except httpx.HTTPError as error:
            raise LabelStudioDown(
                f"{self.url}: Label Studio does not answer ({type(error).__name__}): start it (edgeloop labelstudio "
                f"up), or correct labelling.labelstudio_url"
            ) from None

    def _refusal(self, method: str, path: str, answer: httpx.Response) -> LabellingUnavailable:
        line = f"{self.url}{path}: {method} was answered with {answer.status_code}: {said(answer)}"
        busy = answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or answer.status_code in (408, 429)
        return LabelStudioDown(line) if busy else LabellingUnavailable(line)

    def _json(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise LabellingUnavailable(
                f"{self.url}: answered {answer.request.url.path} with something that is no JSON: is it Label Studio?"
            ) from None


def checked_url(url: str) -> str:
    """A server's address as it is called. Raises SettingsError for what is none, or holds a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "@" in parts.netloc:
        raise SettingsError("labelling.labelstudio_url: write it as https://host or http://127.0.0.1:8080")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def release_of(answer: httpx.Response) -> tuple[int, ...]:
    """The version that a server says it is; empty for one that is no Label Studio."""
    try:
        return tuple(int(part) for part in str(answer.json()["release"]).split(".")[:3])
    except (ValueError, KeyError, TypeError):
        return ()


def said(answer: httpx.Response) -> str:
    """What a server gave as its reason, in one short line."""
    try:
        content = answer.json()
    except ValueError:
        return answer.reason_phrase or "no reason given"
    details = content.get("validation_errors") or content.get("detail") if isinstance(content, dict) else content
    return " ".join(str(details or content).split())[:_TOLD]
