"""The keys that sign releases: files of central's disk, which never reach a bucket, a device or a Prefect worker.

    {folder}/root.json                  what devices trust: names the keys of each role; given to each device once
    {folder}/roots/{version}.root.json  all of its versions, each signed by the keys of the one before
    {folder}/{role}-{keyid}.pem         private keys, PKCS#8, readable by their owner alone

Root keys are needed to replace keys and once a year; whoever wants to keep them elsewhere moves their files away.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.api.metadata import Role as RoleKeys

from tasks.adapters.outbox import sync_folder, write_durably
from tasks.adapters.releases.metadata import PROJECT, ROLES, AnyRole, Role, expires, parse, project_of
from tasks.core import layout
from tasks.core.errors import SettingsError

ROOT_FILE = "root.json"
_ROOTS = "roots"
_KEYID_DIGITS = 12  # of the 64 in a key's file name


@dataclass(frozen=True)
class SigningKeys:
    """The keys of one project. `roots` are all versions of its root, oldest first; the last one is in force."""

    folder: Path
    project: str
    roots: tuple[bytes, ...]

    @property
    def root(self) -> Root:
        return parse(Root, self.roots[-1]).signed

    @contextmanager
    def held(self) -> Iterator[None]:
        """One publisher at a time on this machine; others, elsewhere, are told apart by the bucket."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def signers(self, role: Role, root: Root | None = None, folder: Path | None = None) -> list[CryptoSigner]:
        """Of the role's keys, as `root` names them, those whose files are there. folder: where, instead of here."""
        named = (root or self.root).roles[role].keyids
        found = (folder or self.folder).glob(f"{role}-*.pem")
        return [signer for signer in map(_read_key, sorted(found)) if signer.public_key.keyid in named]

    def sign(self, role: Role, metadata: Metadata[AnyRole]) -> bytes:
        """The metadata with the role's signatures, as it is stored. Raises SettingsError without its keys."""
        signers = self.signers(role)
        if len(signers) < self.root.roles[role].threshold:
            raise SettingsError(
                f"{self.folder}: {len(signers)} of the {self.root.roles[role].threshold} {role} keys that a signature "
                f"needs are here: put the files {role}-*.pem back, or replace the keys with edgeloop keys rotate-root"
            )
        metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()


def create_keys(
    folder: Path, project: str, *, root_keys: int = 1, threshold: int = 1, now: datetime | None = None
) -> SigningKeys:
    """New keys for a project. Raises SettingsError when the folder is there already: keys are never overwritten."""
    layout.name(project, "project")
    if not 1 <= threshold <= root_keys:
        raise SettingsError(f"threshold {threshold} of {root_keys} root keys: use 1 to {root_keys}")
    if folder.exists():
        raise SettingsError(f"{folder}: is there already: name another folder; keys are never overwritten")
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        unfinished.mkdir(parents=True, mode=0o700)
        signers = {
            role: [_new_key(unfinished, role) for _ in range(root_keys if role == "root" else 1)] for role in ROLES
        }
        root = Root(
            version=1,
            expires=expires("root", now or datetime.now(timezone.utc)),
            roles={role: RoleKeys([], threshold if role == "root" else 1) for role in ROLES},
            consistent_snapshot=True,
            unrecognized_fields={PROJECT: project},
        )
        for role, keys in signers.items():
            for signer in keys:
                root.add_key(signer.public_key, role)
        _write_root(unfinished, root, signers["root"])
        os.rename(unfinished, folder)
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be made: {error.strerror or error}: name another folder") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return read_keys(folder, project)


def read_keys(folder: Path, project: str) -> SigningKeys:
    """The keys of a project. Raises SettingsError for a folder that has none, another project's, or open ones."""
    files = sorted((folder / _ROOTS).glob("*.root.json"), key=lambda path: int(path.name.split(".")[0]))
    if not files:
        raise SettingsError(f"{folder}: holds no signing keys: make them with edgeloop keys init --folder {folder}")
    for path in folder.glob("*.pem"):
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SettingsError(f"{path}: others may read this private key: chmod 600 it")
    keys = SigningKeys(folder, project, tuple(path.read_bytes() for path in files))
    try:
        root = keys.root
    except RepositoryError as error:
        raise SettingsError(f"{files[-1]}: {error}: put the file back from a copy") from None
    if project_of(root) != project:
        raise SettingsError(
            f"{folder}: holds the keys of project {project_of(root)!r}, not of {project!r}: name another folder"
        )
    if not (folder / ROOT_FILE).exists() or (folder / ROOT_FILE).read_bytes() != keys.roots[-1]:
        write_durably(folder / ROOT_FILE, keys.roots[-1])  # cut off between the two
    return keys


def new_root(
    keys: SigningKeys,
    replace: Collection[Role] = (),
    *,
    root_folder: Path | None = None,
    now: datetime | None = None,
) -> SigningKeys:
    """The next version of the root: valid for another year, with fresh keys for the roles in `replace`.

    Signed by the root keys of before and of now, so that devices that know any earlier version walk up to it.
    root_folder: where the root keys are, when they are not with the others; new ones go there, too.
    """
    old = keys.root
    root_keys = root_folder or keys.folder
    signers = keys.signers("root", old, root_keys)
    if len(signers) < old.roles["root"].threshold:
        raise SettingsError(
            f"{root_keys}: {len(signers)} of the {old.roles['root'].threshold} root keys that a new root needs are "
            f"here: name the folder where the others are"
        )
    root = parse(Root, keys.roots[-1]).signed
    root.version += 1
    root.expires = expires("root", now or datetime.now(timezone.utc))
    for role in replace:
        gone = list(root.roles[role].keyids)
        for _ in gone:
            fresh = _new_key(root_keys if role == "root" else keys.folder, role)
            root.add_key(fresh.public_key, role)
            signers += [fresh] if role == "root" else []
        for keyid in gone:
            root.revoke_key(keyid, role)
    _write_root(keys.folder, root, signers)
    return read_keys(keys.folder, keys.project)


def remove_replaced_keys(keys: SigningKeys, folder: Path | None = None) -> list[str]:
    """Remove the files of keys that the root no longer names; which ones."""
    named = {keyid for role in keys.root.roles.values() for keyid in role.keyids}
    gone = []
    for path in sorted((folder or keys.folder).glob("*-*.pem")):
        if path.name.split("-")[0] in ROLES and _read_key(path).public_key.keyid not in named:
            path.unlink()
            gone.append(path.name)
    return gone


def _new_key(folder: Path, role: Role) -> CryptoSigner:
    """A fresh ed25519 key, its private part in a file of its own."""
    signer = CryptoSigner.generate_ed25519()
    path = folder / f"{role}-{signer.public_key.keyid[:_KEYID_DIGITS]}.pem"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(signer.private_bytes)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    return signer


def _read_key(path: Path) -> CryptoSigner:
    try:
        return CryptoSigner(load_pem_private_key(path.read_bytes(), None))
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"{path}: is no private key ({type(error).__name__}): put it back from a copy") from None


def _write_root(folder: Path, root: Root, signers: Iterable[CryptoSigner]) -> None:
    metadata = Metadata(root)
    for signer in signers:
        metadata.sign(signer, append=True)
    data = metadata.to_bytes()
    (folder / _ROOTS).mkdir(exist_ok=True)
    path = folder / _ROOTS / f"{root.version}.root.json"
    write_durably(path, data)
    sync_folder(path.parent)
    write_durably(folder / ROOT_FILE, data)
    sync_folder(folder)
