"""Become another client where the state folder turns out to be a copy of one that is in use (L6).

    new numbers for all that was made here and is in no commit yet -> a new id

Two folders with one id would take each other's commits for their own, and inode numbers from one
range. Whoever notices it first leaves both to the other. In this order: who is killed in between is
found to be a copy again by the next mount, and does both again.

Concurrency: before anything is served, so no program and no kernel holds an old number. A mount
that finds out later stops saving until the next one.
"""

from blobfs.env import Env
from blobfs.formats.tables import Table
from blobfs.model.numbers import is_native, range_by_chance
from blobfs.types import ROOT_INODE, InodeNo
from blobfs.volume.client import Identity
from blobfs.volume.tree import Tree
from blobfs.volume.tree_rows import number_key
from blobfs.volume.unsaved import Unsaved


async def become_another_client(identity: Identity, tree: Tree, unsaved: Unsaved, env: Env) -> None:
    """Take a new id, and with it new numbers for what was made here and is in no commit yet.

    Unsaved changes of what is committed stay as they are; no commit is under way.

    Raises:
        LocalFault: the disk refused.
        BlobfsError: a part of the tree is not here, and the store failed us.
    """
    made = sorted(await made_here(tree, unsaved))
    first = range_by_chance(env.chance())
    numbers = {old: InodeNo(new) for new, old in enumerate(made, first)}
    # What lies below an unsaved row has to be known, also that it is nothing.
    await tree.load_keys((Table.INODES, number_key(new)) for new in numbers.values())
    if numbers:
        await unsaved.renumber(numbers)
    env.crash_point("renewal.renumbered")
    await identity.renew()
    env.crash_point("renewal.renewed")


async def made_here(tree: Tree, unsaved: Unsaved) -> list[InodeNo]:
    """Return the inodes that this client gave numbers to, of its own, and that no commit has yet.

    Raises:
        BlobfsError: a part of the tree is not here, and the store failed us.
    """
    numbered = [
        inode for inode in unsaved.inode_states if inode != ROOT_INODE and not is_native(inode)
    ]
    await tree.load_keys((Table.INODES, number_key(inode)) for inode in numbered)
    return [inode for inode in numbered if tree.inode(inode) is None]
