"""Put together what brings unsaved rows into the bucket.

    rows -> Pusher -> Stager -> packs
                   -> Committer -> log -> tree -> Checkpointer, Trash
    large files that are still being written -> Ahead -> Stager -> packs

Concurrency: four tasks, which whoever puts this together starts: Pusher, Ahead, Checkpointer and
Trash.
"""

import platform
from dataclasses import dataclass

from blobfs import __version__
from blobfs.cache.reading import Reading
from blobfs.env import Env
from blobfs.model.nodes import NativeLook
from blobfs.model.settling import Settling
from blobfs.stores.base import Store
from blobfs.sync.access import WriteAccess
from blobfs.sync.ahead import Ahead
from blobfs.sync.beginning import Beginner
from blobfs.sync.binding import Bucket
from blobfs.sync.checkpoint import CheckpointWriter
from blobfs.sync.checkpointer import Checkpointer, CheckpointRules
from blobfs.sync.commit import Committer
from blobfs.sync.delete_probe import DeleteProbe
from blobfs.sync.equality import Equality
from blobfs.sync.local_state import LocalState
from blobfs.sync.numbering import Numbering
from blobfs.sync.pipeline import StagePlaces
from blobfs.sync.programs import Programs
from blobfs.sync.pull import Puller
from blobfs.sync.push import Pusher
from blobfs.sync.replaying import Replayer
from blobfs.sync.stage import Stager
from blobfs.sync.trash import OpenObjects, Trash, TrashRules
from blobfs.sync.uploads import Uploads
from blobfs.volume.conflicts import Conflicts
from blobfs.volume.content import Contents
from blobfs.volume.log import Log
from blobfs.volume.membership import Membership
from blobfs.volume.orphans import Orphans


@dataclass(frozen=True, slots=True)
class Saving:
    """What brings unsaved rows into the bucket."""

    log: Log
    committer: Committer
    pusher: Pusher
    puller: Puller
    checkpointer: Checkpointer
    ahead: Ahead
    uploads: Uploads
    orphans: Orphans
    contents: Contents
    settling: Settling
    programs: Programs
    numbering: Numbering
    trash: Trash


def put_together(
    bucket: Bucket,
    reading: Reading,
    env: Env,
    local: LocalState,
    access: WriteAccess,
    *,
    settle_s: float,
    look: NativeLook | None,
    checkpoints: CheckpointRules,
    trash_rules: TrashRules,
) -> Saving:
    """Put together what saves the unsaved rows of `local` to `bucket`; nothing of it runs yet.

    It goes by the id that the client has now. A file is saved `settle_s` after its last close;
    `look` is that of native objects, None if nobody sees them.
    """
    unsaved, tree = local.unsaved, local.tree
    orphans = Orphans(tree.inode)
    contents = Contents(reading)
    settling = Settling(settle_s=settle_s, on_closed=lambda inode: pusher.note_closed(inode))
    uploads = Uploads(unsaved, tree)
    places = StagePlaces(
        uploads.look_up,
        uploads.note_sent,
        reading.chunks.keep,
        compress=local.volume.info.compression != "none",
    )
    stager = Stager(bucket.store, env, reading.budget, places)

    async def prepare() -> None:
        """Make sure that the bucket is a volume, and know what of its content it has already."""
        await access.prepare()
        await uploads.prove(bucket.store)
        await tree.note_loaded_chunks()

    ahead = Ahead(unsaved, tree, contents, stager, settling, prepare)
    log = Log(bucket.store, env, local.identity.client, local.settings.note)
    checkpointer = _checkpointer(bucket.store, env, local, checkpoints)
    programs, numbering = Programs(), Numbering(local, env)
    replayer = _replayer(env, local, orphans, contents, programs, numbering, look)
    committer = _committer(
        bucket.store, log, env, local, orphans, replayer, stager, uploads, checkpointer
    )
    trash = _trash(bucket.store, env, local, orphans, trash_rules)
    pusher = Pusher(
        unsaved=unsaved,
        tree=tree,
        committer=committer,
        stager=stager,
        uploads=uploads,
        ahead=ahead,
        contents=contents,
        conflicts=Conflicts(unsaved, tree, env, platform.node()),
        settling=settling,
        prepare=prepare,
        trash=trash,
        env=env,
    )
    programs.listeners.append(pusher.note_foreign)
    return Saving(
        log=log,
        committer=committer,
        pusher=pusher,
        puller=Puller(committer=committer, log=log, programs=programs, env=env),
        checkpointer=checkpointer,
        ahead=ahead,
        uploads=uploads,
        orphans=orphans,
        contents=contents,
        settling=settling,
        programs=programs,
        numbering=numbering,
        trash=trash,
    )


def _replayer(
    env: Env,
    local: LocalState,
    orphans: Orphans,
    contents: Contents,
    programs: Programs,
    numbering: Numbering,
    look: NativeLook | None,
) -> Replayer:
    return Replayer(
        tree=local.tree,
        unsaved=local.unsaved,
        orphans=orphans,
        programs=programs,
        equality=Equality(local.unsaved, local.tree, contents),
        numbers=numbering.numbers,
        host=platform.node(),
        look=look,
        env=env,
    )


def _committer(
    store: Store,
    log: Log,
    env: Env,
    local: LocalState,
    orphans: Orphans,
    replayer: Replayer,
    stager: Stager,
    uploads: Uploads,
    checkpointer: Checkpointer,
) -> Committer:
    me = local.identity.client
    beginner = Beginner(
        store=store,
        tree=local.tree,
        unsaved=local.unsaved,
        orphans=orphans,
        identity=local.identity,
        volume=local.volume,
    )
    return Committer(
        tree=local.tree,
        beginner=beginner,
        replayer=replayer,
        log=log,
        unsaved=local.unsaved,
        identity=local.identity,
        membership=Membership(store, me, env, host=platform.node(), program=__version__),
        save_blocks=stager.stage_data,
        brought=uploads.brought_bytes,
        committed=checkpointer.note_committed,
        env=env,
    )


def _trash(store: Store, env: Env, local: LocalState, orphans: Orphans, rules: TrashRules) -> Trash:
    me = local.identity.client
    return Trash(
        store=store,
        tree=local.tree,
        settings=local.settings,
        probe=DeleteProbe(store, local.folder, me),
        open_objects=OpenObjects(orphans, local.unsaved),
        me=me,
        rules=rules,
        env=env,
    )


def _checkpointer(
    store: Store, env: Env, local: LocalState, rules: CheckpointRules
) -> Checkpointer:
    writer = CheckpointWriter(store, local.tree, env, local.identity.client, rules.sizes)
    return Checkpointer(writer, local.tree, rules, env)
