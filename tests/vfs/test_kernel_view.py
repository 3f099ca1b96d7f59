"""The kernel is told of what it knows and should not believe any more, and of nothing else."""

from blobfs.model.rebase import Foreign
from blobfs.types import ROOT_INODE, InodeNo, NodeNo
from blobfs.vfs.kernel_view import KernelView, Outdated

FOLDER, FILE, COPY = InodeNo(5), InodeNo(7), InodeNo(100)


class Told:
    """A view whose kernel knows the root, and what it is told."""

    def __init__(self, *known: InodeNo) -> None:
        self.outdated: list[Outdated] = []
        self.view = KernelView(self.outdated.append)
        for inode in known:
            self.view.count(self.view.node(inode), None)


def test_names_are_told_of_in_directories_that_are_known() -> None:
    """A new file would not show, and a removed one would, for half a minute."""
    told = Told(FOLDER)
    told.view.follow(
        Foreign(dirents=((FOLDER, b"a"), (ROOT_INODE, b"b"), (InodeNo(6), b"unknown")))
    )
    assert told.outdated == [Outdated(names=((NodeNo(5), b"a"), (NodeNo(1), b"b")))]


def test_attributes_are_told_of_where_they_are_known() -> None:
    """A `chmod` elsewhere would not be heeded here for half a minute."""
    told = Told(FILE)
    told.view.follow(Foreign(inodes=(FILE, InodeNo(8))))
    assert told.outdated == [Outdated(attributes=(NodeNo(7),))]


def test_a_replaced_file_is_told_of_by_its_name() -> None:
    """The name would lead to the old version for half a minute."""
    told = Told(FILE)
    told.view.note_found(FILE, (ROOT_INODE, b"f"))
    told.view.follow(Foreign(inodes=(FILE,), contents=(FILE,), numbers={FILE: COPY}))
    assert told.outdated == [Outdated(((NodeNo(1), b"f"),), (NodeNo(7),))]
    assert told.view.node(COPY) == NodeNo(7)
    assert told.view.node(FILE) != NodeNo(7)


def test_nothing_is_told_of_what_the_kernel_does_not_know() -> None:
    """Each commit of another client would cost time for every one of its files."""
    told = Told()
    told.view.follow(Foreign(((FOLDER, b"a"),), (FILE,), (FILE,)))
    assert told.outdated == []


def test_an_inode_is_held_until_its_last_node_is_forgotten() -> None:
    """A directory that was made twice would go while a program stands in it."""
    told = Told(FILE, COPY)
    told.view.follow(Foreign(numbers={FILE: COPY}))
    assert told.view.forget(NodeNo(7), 1) is None
    assert told.view.holds(COPY)
    assert told.view.forget(NodeNo(100), 1) == COPY
