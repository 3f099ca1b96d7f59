"""Word the two refusals of a decoder: the bytes are damaged, or a newer blobfs wrote them.

The difference matters to whoever reads the message: damage is looked at with `check`, and newer
bytes want a newer program, never a repair.
"""

from blobfs.errors import Damaged, Unsupported

UPGRADE = "a newer blobfs wrote it; upgrade this one"
CHECK = "ask again; if it stays so, `blobfs check` tells what is affected"


def damaged(what: str, why: str, key: str) -> Damaged:
    """Return the error for bytes that are not what they should be."""
    return Damaged(f"{what} is damaged: {why}. key={key!r}", hint=CHECK)


def newer(what: str, why: str, key: str) -> Unsupported:
    """Return the error for bytes that are whole, but say more than this version knows."""
    return Unsupported(f"{what} is of a newer version: {why}. key={key!r}", hint=UPGRADE)


def refuse_unknown_needs(what: str, needs: tuple[str, ...], key: str) -> None:
    """Refuse bytes that name features which a reader has to know. This version knows none.

    Raises Unsupported.
    """
    if needs:
        raise newer(what, f"it needs {', '.join(map(repr, needs[:8]))}", key)
