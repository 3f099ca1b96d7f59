"""Spell the keys below which a volume lies in its container, and read them back.

All keys are relative to where the volume is mounted, as stores take them.
"""

import re

from blobfs.types import ClientId, PackName, Seq

RESERVED = ".blobfs/"
"""All that blobfs keeps lies below this, and nothing else does (N7)."""

LOG = RESERVED + "log/"
PACKS = RESERVED + "packs/"
CLIENTS = RESERVED + "clients/"
CHECKPOINTS = RESERVED + "checkpoints/"
PROBES = RESERVED + "probes/"

MOST_SEQ = (1 << 63) - 1

_LOG_KEY = re.compile(re.escape(LOG) + r"([0-9]{20})")
_PACK_KEY = re.compile(re.escape(PACKS) + r"([0-9a-f]{2})/(\1[0-9a-f]{78})")
_CLIENT_KEY = re.compile(re.escape(CLIENTS) + r"([0-9a-f]{32})")
_CHECKPOINT_NAME = re.compile(r"([0-9]{20})-[0-9a-f]{16}")


def volume_key() -> str:
    """Return the key of the object that makes a container a volume."""
    return RESERVED + "volume"


def head_key() -> str:
    """Return the key of the one object that changes."""
    return RESERVED + "head"


def log_key(seq: Seq) -> str:
    """Return the key of commit `seq`; keys sort like their numbers."""
    return f"{LOG}{seq:020d}"


def parse_log_key(key: str) -> Seq | None:
    """Return the number of the commit that lies under `key`; None if none can."""
    return _seq(_LOG_KEY.fullmatch(key))


def pack_key(name: PackName) -> str:
    """Return the key of a pack, below the first of its bytes."""
    spelled = name.hex()
    return f"{PACKS}{spelled[:2]}/{spelled}"


def parse_pack_key(key: str) -> PackName | None:
    """Return the name of the pack that lies under `key`; None if none can."""
    match = _PACK_KEY.fullmatch(key)
    return PackName(bytes.fromhex(match[2])) if match else None


def client_key(client: ClientId) -> str:
    """Return the key of the record that `client` alone writes."""
    return CLIENTS + client.hex()


def probe_key(client: ClientId) -> str:
    """Return the key under which `client` tries what the store does; nobody reads it."""
    return PROBES + client.hex()


def parse_client_key(key: str) -> ClientId | None:
    """Return the client whose record lies under `key`; None if none can."""
    match = _CLIENT_KEY.fullmatch(key)
    return ClientId(bytes.fromhex(match[1])) if match else None


def checkpoint_name(seq: Seq, manifest_sha256: bytes) -> str:
    """Return the name by which `head` calls the checkpoint of the tree after commit `seq`."""
    return f"{seq:020d}-{manifest_sha256.hex()[:16]}"


def checkpoint_key(name: str) -> str:
    """Return the key of the manifest of a checkpoint."""
    return CHECKPOINTS + name


def parse_checkpoint_name(name: str) -> Seq | None:
    """Return the commit after which the checkpoint was made; None if `name` names none."""
    return _seq(_CHECKPOINT_NAME.fullmatch(name))


def _seq(match: re.Match[str] | None) -> Seq | None:
    """Return the number that matched; commits are numbered from 1."""
    if match is None or not 1 <= int(match[1]) <= MOST_SEQ:
        return None
    return Seq(int(match[1]))
