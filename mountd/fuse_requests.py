"""Answer a request of the kernel, whatever happens while it is carried out.

A handler of pyfuse3 that raised anything but FUSEError would end the mount, so one wrapper turns
our errors into their errnos and everything else into a logged EIO. Where a part of the tree has to
be loaded first, the request begins anew behind that: nothing of it has happened yet.
"""

import errno
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyfuse3

from blobfs.errors import BlobfsError
from blobfs.trace import request_id
from blobfs.volume.tree_blocks import NotLoaded
from blobfs.volume.unsaved import Moving

log = logging.getLogger("blobfs.fuse")

Load = Callable[[NotLoaded], Awaitable[None]]
"""Waits until what was missing was loaded, or raises why it cannot be."""


class Answering(Protocol):
    """What answers requests."""

    counts: Counter[str]
    serial: "itertools.count[int]"
    load: Load
    note_request: Callable[[], None]
    """Called with each: somebody is using the mount."""


F = TypeVar("F", bound=Answering)
P = ParamSpec("P")
R = TypeVar("R")


def handler(
    method: Callable[Concatenate[F, P], Awaitable[R]],
) -> Callable[Concatenate[F, P], Coroutine[Any, Any, R]]:
    """Count a request, give it an id, carry it out, and translate what it raises."""
    name = method.__name__.lstrip("_")

    @wraps(method)
    async def handle(self: F, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.counts[name] += 1
        self.note_request()
        request_id.set(f"{name}-{next(self.serial)}")
        try:
            while True:
                try:
                    return await method(self, *args, **kwargs)
                except NotLoaded as missing:
                    await self.load(missing)
                except Moving as moving:
                    await moving.wait()
        except pyfuse3.FUSEError:
            raise
        except BlobfsError as error:
            log_failure(name, error)
            raise pyfuse3.FUSEError(error.errno) from error
        except Exception as error:
            log.exception("%s failed for a reason of our own", name)
            raise pyfuse3.FUSEError(errno.EIO) from error

    return handle


_WORTH_A_WORD = (errno.EIO, errno.ESTALE, errno.EROFS, errno.EFBIG)
"""What a program's own message does not explain: EROFS on a mount that can be written, say."""


def log_failure(name: str, error: BlobfsError) -> None:
    """Say why a request failed, where that is more than an answer."""
    level = logging.WARNING if error.errno in _WORTH_A_WORD else logging.DEBUG
    log.log(level, "%s: %s (%s)", name, error, errno.errorcode.get(error.errno, error.errno))
