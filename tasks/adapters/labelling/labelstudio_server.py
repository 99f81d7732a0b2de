"""A Label Studio server of one's own: an environment for it, a folder with its data, an account and an access token.

    {folder}/
      environment/   its packages, apart from ours: they want others (pinned and hashed in deployments/labelstudio.txt)
      data/          SQLite database and uploaded images; this is what a backup needs
      account.json   user name, password, invitation link (readable by the owner alone)
      token          personal access token for `edgeloop` (readable by the owner alone)
      server.log

Nothing leaves the machine: analytics, error reports and the look for a newer version are off.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tasks.adapters.labelling.labelstudio_client import LabelStudio, is_loopback
from tasks.core.errors import AlreadyRunning, LabellingUnavailable, SettingsError

REQUIREMENTS = Path(__file__).resolve().parents[3] / "deployments" / "labelstudio.txt"
USER = "admin@localhost"
START_SECONDS = 240.0  # a first start makes the database: 40 s on an idle machine
INSTALL_SECONDS = 1800.0
_KEPT = ("PATH", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_KEPT_PREFIXES = ("AWS_", "LABEL_STUDIO_", "LC_")


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers, with its account made and its token written."""

    url: str
    process: subprocess.Popen[bytes]


def ensure_environment(target: Path) -> Path:
    """Label Studio's program, installed into an environment of its own where it is not there yet.

    Takes a minute or two and 0.9 GB the first time. Raises LabellingUnavailable with what went wrong.
    """
    if not REQUIREMENTS.exists():
        raise LabellingUnavailable(f"{REQUIREMENTS}: is not there: run edgeloop from a checkout of its repository")
    program = target / "bin" / "label-studio"
    mark = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    stamp = target / f"edgeloop-{mark}"
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = os.open(target.parent, os.O_RDONLY)
    try:
        fcntl.flock(beside, fcntl.LOCK_EX)  # of several who want it, one makes it
        if not stamp.exists():
            install(target)
            stamp.touch()
    finally:
        os.close(beside)
    return program


def install(target: Path) -> None:
    """A fresh environment with the pinned packages: by uv, which is ten times as fast, or by venv and pip."""
    python = str(target / "bin" / "python")
    pins = ["--require-hashes", "--no-deps", "-r", str(REQUIREMENTS)]
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv:
        commands = [
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(target)],
            [uv, "pip", "install", "--quiet", "--python", python, *pins],
        ]
    else:
        commands = [
            [sys.executable, "-m", "venv", "--clear", str(target)],
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins],
        ]
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LabellingUnavailable(f"{target}: cannot be made: {type(error).__name__} of {command[0]}") from None
        if done.returncode != 0:
            why = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1][:300]
            raise LabellingUnavailable(f"{target}: {Path(command[0]).name} could not install Label Studio: {why}")


@contextmanager
def label_studio(
    folder: Path, *, host: str = "127.0.0.1", port: int = 8080, environment: Path | None = None
) -> Iterator[RunningServer]:
    """A server with its data in `folder` while the block runs; `environment` is `{folder}/environment` by default.

    Raises AlreadyRunning where the folder has one, SettingsError where the port is taken, and LabellingUnavailable
    where it cannot be installed or does not start.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with held(folder) as lock:
        program = ensure_environment(environment.resolve() if environment else folder / "environment")
        check_port(host, port)
        url = f"http://{host}:{port}"
        log = folder / "server.log"
        account = account_of(folder)
        prepare_database(folder / "data")
        command = [str(program), "start", "--no-browser", "--internal-host", host, "--port", str(port)]
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                env=server_environment(folder / "data", account, loopback=is_loopback(url)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(lock,),  # so that the folder is held for as long as the server lives, also without us
            )
        try:
            write_whole(folder / "server.json", json.dumps({"pid": process.pid, "url": url}))
            wait_until_healthy(url, process, log)
            ensure_token(folder, url, account)
            yield RunningServer(url, process)
        finally:
            stop(process.pid)
            process.wait()


def stop_server(folder: Path) -> bool:
    """Stop the server of `folder`, whoever started it; False when there is none."""
    with suppress(AlreadyRunning), held(folder.resolve()):
        return False
    try:
        pid = int(json.loads((folder / "server.json").read_bytes())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        raise LabellingUnavailable(f"{folder}: a server runs, or is about to, and does not say its process") from None
    stop(pid)
    return True


def server_environment(data: Path, account: Mapping[str, str], *, loopback: bool) -> dict[str, str]:
    """What the server sees: no telemetry, our folder, our account, and the credentials of the bucket.

    Label Studio takes settings from plain names too (HOST, DEBUG, USERNAME), so that little of ours is passed on.
    """
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    quiet = {
        "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_FEATURE_FLAGS_OFFLINE": "true",
    }
    ours = {
        "HOME": str(data),  # it writes there; what the AWS libraries look for there is named instead
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_USERNAME": account["user"],
        "LABEL_STUDIO_PASSWORD": account["password"],
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
    }
    aws = {
        "AWS_SHARED_CREDENTIALS_FILE": str(Path.home() / ".aws" / "credentials"),
        "AWS_CONFIG_FILE": str(Path.home() / ".aws" / "config"),
    }
    # Buckets on this machine or in this network are what its protection against SSRF would refuse.
    private = {"LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "false"} if loopback else {}
    return {**private, **aws, **kept, **quiet, **ours}


def prepare_database(data: Path) -> None:
    """Write-ahead logging, so that people who read do not wait for those who submit; it stays with the file."""
    data.mkdir(exist_ok=True)
    with closing(sqlite3.connect(data / "label_studio.sqlite3")) as database:
        database.execute("PRAGMA journal_mode=wal")


def account_of(folder: Path) -> dict[str, str]:
    """The account of the one who runs the server, made the first time."""
    file = folder / "account.json"
    try:
        return dict(json.loads(file.read_bytes()))
    except FileNotFoundError:
        account = {"user": USER, "password": secrets.token_urlsafe(18)}
        write_whole(file, json.dumps(account, indent=1))
        return account
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file}: cannot be read ({error}): mend or remove it") from None


def ensure_token(folder: Path, url: str, account: Mapping[str, str]) -> None:
    """Write the access token and the invitation link, where the token that is there does not open the server."""
    file = folder / "token"
    try:
        server = LabelStudio(url, file.read_text().strip())
        with closing(server):
            server.get("/api/projects")
        return
    except (OSError, LabellingUnavailable):
        pass  # there is none, or it is of a database that was removed
    token, invitation = made_token(url, account)
    write_whole(file, token)
    write_whole(folder / "account.json", json.dumps({**account, "invitation": invitation}, indent=1))


def made_token(url: str, account: Mapping[str, str]) -> tuple[str, str]:
    """A personal access token and the link that invites others, both as a person would get them on the page."""
    with httpx.Client(base_url=url, timeout=60, trust_env=not is_loopback(url)) as http:
        try:
            http.get("/user/login/").raise_for_status()
            form = {"email": account["user"], "password": account["password"]}
            entered = http.post("/user/login/", data={**form, "csrfmiddlewaretoken": http.cookies["csrftoken"]})
            if entered.status_code != httpx.codes.FOUND:
                raise LabellingUnavailable(
                    f"{url}: {account['user']} cannot log in: the password was changed; make a personal access token "
                    f"there by hand (Account & Settings)"
                )
            headers = {"X-CSRFToken": http.cookies["csrftoken"]}
            for old in http.get("/api/token/").raise_for_status().json():  # one is allowed, and nobody has this one
                http.post("/api/token/blacklist/", json={"refresh": old["token"]}, headers=headers).raise_for_status()
            token = http.post("/api/token/", headers=headers).raise_for_status().json()["token"]
            invitation = http.get("/api/invite").raise_for_status().json()["invite_url"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise LabellingUnavailable(f"{url}: made no access token ({type(error).__name__})") from None
    return str(token), f"{url}{invitation}"


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server says that it is up. Raises LabellingUnavailable when it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LabellingUnavailable(f"Label Studio ended with {process.returncode} at its start: see {log}")
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=5, trust_env=not is_loopback(url)).is_success:
                return
        time.sleep(0.25)
    raise LabellingUnavailable(f"Label Studio did not come up in {START_SECONDS:.0f} s: see {log}")


def check_port(host: str, port: int) -> None:
    """Raises SettingsError where nothing can listen there: Label Studio itself would take another port in silence."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise SettingsError(
            f"port {port} of {host}: cannot be used ({error.strerror or error}): choose another with --port or --host"
        ) from None


def stop(pid: int) -> None:
    """End a server and whatever it started, politely first."""
    for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                os.killpg(pid, number)
            except (ProcessLookupError, PermissionError):
                return
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    return
            time.sleep(0.1)


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """One server a folder. Raises AlreadyRunning."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"{folder}: its server runs already: use it, or edgeloop labelstudio down --folder {folder}"
            ) from None
        yield lock
    finally:
        os.close(lock)


def write_whole(file: Path, text: str) -> None:
    """A file for its owner's eyes alone, whole or not at all."""
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        output.write(text)
    os.replace(temporary, file)
