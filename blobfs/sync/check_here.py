"""Check a volume and what this machine keeps of it, and make that anew where asked to."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from blobfs.cache.lock import hold_folder
from blobfs.env import Env
from blobfs.errors import InUse
from blobfs.stores.base import Store
from blobfs.sync.check import CheckOptions, check, repair
from blobfs.sync.check_local import Shown
from blobfs.sync.check_packs import Progress
from blobfs.sync.check_report import CheckReport
from blobfs.types import Seq

Repair = Literal["never", "damaged", "always"]
"""When to make this machine's tree anew from the bucket."""


@dataclass(frozen=True, slots=True)
class Here:
    """What this machine has to do with the volume."""

    state_dir: Path
    shown: Shown | None
    """What a mount shows; it holds the state folder then. None: it is not mounted here."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found, and what was done about it."""

    report: CheckReport
    repaired_to: Seq | None
    """The commit that this machine's new tree is at; None: it was left as it is."""
    repaired_from: Seq | None = None
    """The commit of the checkpoint that it began from; None: it was made from the log alone."""


async def check_here(
    store: Store, here: Here, env: Env, *, read_data: bool, when: Repair, progress: Progress
) -> Outcome:
    """Check the volume in `store`; only with `when` is anything changed, and only on this machine.

    Raises:
        InUse: something is to be made anew that another process uses.
        BlobfsError: as `check` and `repair` do.
    """
    with TemporaryDirectory(prefix="blobfs-check-") as scratch, ExitStack() as stack:
        state_dir = stack.enter_context(_held(here, when))
        options = CheckOptions(Path(scratch), read_data, state_dir, here.shown)
        checked = await check(store, options, env, progress)
        is_due = when == "always" or (when == "damaged" and checked.report.has_local_damage)
        if state_dir is None or not is_due:
            return Outcome(checked.report, None)
        rebuilt = await repair(store, checked, state_dir, env)
        return Outcome(checked.report, rebuilt.seq, rebuilt.begun_at or None)


@contextmanager
def _held(here: Here, when: Repair) -> Iterator[Path | None]:
    """Hold the state folder; yield None where there is none to look at."""
    if here.shown is not None:
        if when != "never":
            raise InUse(
                f"it is mounted, and uses what would be made anew. path={str(here.state_dir)!r}",
                hint="unmount it first: what is unsaved is kept",
            )
        yield None
    elif when == "always" or here.state_dir.exists():
        with hold_folder(here.state_dir):
            yield here.state_dir
    else:
        yield None
