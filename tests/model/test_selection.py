"""Which unsaved rows a commit takes."""

import random

from blobfs.model.selection import InodeState, NameState, Selection, select
from blobfs.types import FIRST_NATIVE_INODE, InodeNo

ROOT = InodeNo(1)
FOLDER, FILE, OTHER = InodeNo(10), InodeNo(11), InodeNo(12)
NONE = InodeNo(0)
PLENTY = 1 << 40


def state(
    since_s: float = 0.0,
    *,
    unsaved_bytes: int = 0,
    held: bool = False,
    new_folder: bool = False,
    gone_folder: bool = False,
    detached_in: InodeNo | None = None,
    lost: bool = False,
) -> InodeState:
    return InodeState(
        since_s, unsaved_bytes, held, new_folder, gone_folder, detached_in, is_lost=lost
    )


def test_takes_both_names_of_a_rename_or_none() -> None:
    """Half a rename would show the file twice, or lose it, to every other client."""
    names = {(ROOT, b"old"): NameState(FILE, NONE), (ROOT, b"new"): NameState(NONE, FILE)}

    chosen = select({FILE: state()}, names, PLENTY)
    waiting = select({FILE: state(held=True)}, names, PLENTY)

    assert set(chosen.names) == set(names)
    assert waiting == Selection((), ())


def test_replacing_a_file_waits_for_the_one_that_replaces_it() -> None:
    """The old content would be gone before the new one is there."""
    names = {(ROOT, b"f"): NameState(before=FILE, after=OTHER)}

    chosen = select({FILE: state(), OTHER: state(held=True)}, names, PLENTY)

    assert not chosen


def test_one_open_file_does_not_hold_up_the_others() -> None:
    """A log file that is open all day would keep everything unsaved all day."""
    inodes = {ROOT: state(), FILE: state(held=True), OTHER: state()}
    names = {(ROOT, b"log"): NameState(NONE, FILE), (ROOT, b"done"): NameState(NONE, OTHER)}

    chosen = select(inodes, names, PLENTY)

    assert set(chosen.inodes) == {ROOT, OTHER}
    assert chosen.names == ((ROOT, b"done"),)


def test_a_new_directory_comes_with_or_before_what_lies_in_it() -> None:
    """An entry whose directory is not in the log could be reached by nobody."""
    inodes = {FOLDER: state(5.0, new_folder=True), FILE: state(1.0, unsaved_bytes=10)}
    names = {(ROOT, b"d"): NameState(NONE, FOLDER), (FOLDER, b"f"): NameState(NONE, FILE)}

    chosen = select(inodes, names, 1)

    assert set(chosen.inodes) == {FOLDER, FILE}
    assert set(chosen.names) == set(names)


def test_a_new_directory_need_not_wait_for_an_open_file_in_it() -> None:
    """A build's output directory would stay unsaved as long as any file in it is open."""
    inodes = {FOLDER: state(new_folder=True), FILE: state(held=True)}
    names = {(ROOT, b"d"): NameState(NONE, FOLDER), (FOLDER, b"f"): NameState(NONE, FILE)}

    assert select(inodes, names, PLENTY).inodes == (FOLDER,)


def test_a_directory_goes_only_with_what_lay_in_it() -> None:
    """Its entries would be left in the tree without a directory."""
    inodes = {FOLDER: state(gone_folder=True), FILE: state(held=True)}
    names = {
        (ROOT, b"d"): NameState(FOLDER, NONE),
        (FOLDER, b"f"): NameState(FILE, NONE),
        (ROOT, b"f"): NameState(NONE, FILE),
    }

    assert not select(inodes, names, PLENTY)
    settled = {**inodes, FILE: state()}
    assert set(select(settled, names, PLENTY).names) == set(names)


OBJECT = InodeNo(FIRST_NATIVE_INODE + 1)
RENAMED = {(ROOT, b"old"): NameState(FOLDER, NONE), (ROOT, b"new"): NameState(NONE, FOLDER)}


def test_a_renamed_directory_comes_with_the_objects_that_it_showed() -> None:
    """Others would see it empty, and its files under the old name (N2)."""
    names = {**RENAMED, (FOLDER, b"f"): NameState(NONE, OBJECT)}
    folder = state(1.0, detached_in=ROOT)

    chosen = select({FOLDER: folder, OBJECT: state(2.0, unsaved_bytes=10)}, names, 1)
    waiting = select({FOLDER: folder, OBJECT: state(held=True)}, names, PLENTY)

    assert set(chosen.names) == set(names)
    assert not waiting


def test_directories_of_objects_are_renamed_with_the_one_above() -> None:
    """What another tool puts into one of them would show under a name that it never had."""
    below = InodeNo(20)
    inodes = {FOLDER: state(detached_in=ROOT), below: state(held=True, detached_in=FOLDER)}

    assert not select(inodes, RENAMED, PLENTY)
    chosen = select({**inodes, below: state(9.0, detached_in=FOLDER)}, RENAMED, PLENTY)
    assert set(chosen.inodes) == {FOLDER, below}


def test_a_renamed_directory_waits_for_no_file_that_cannot_be_saved() -> None:
    """One file whose object was replaced would keep all of it unsaved."""
    names = {**RENAMED, (FOLDER, b"f"): NameState(NONE, OBJECT)}
    inodes = {FOLDER: state(detached_in=ROOT), OBJECT: state(held=True, lost=True)}

    assert select(inodes, names, PLENTY).inodes == (FOLDER,)


def test_a_renamed_directory_waits_for_no_new_file() -> None:
    """A log that is written in it all day would keep all of it unsaved all day."""
    names = {**RENAMED, (FOLDER, b"log"): NameState(NONE, FILE)}
    inodes = {FOLDER: state(detached_in=ROOT), FILE: state(held=True)}

    assert select(inodes, names, PLENTY).inodes == (FOLDER,)


def test_waiting_spreads_to_what_needs_it() -> None:
    """Whoever waits for something that waits cannot go either."""
    inner = InodeNo(20)
    inodes = {
        FOLDER: state(gone_folder=True),
        inner: state(gone_folder=True),
        FILE: state(held=True),
    }
    names = {
        (ROOT, b"d"): NameState(FOLDER, NONE),
        (FOLDER, b"inner"): NameState(inner, NONE),
        (inner, b"f"): NameState(FILE, NONE),
        (ROOT, b"f"): NameState(NONE, FILE),
    }

    assert not select(inodes, names, PLENTY)


def test_takes_the_oldest_first_and_stops_at_the_limit() -> None:
    """What was written first would stay unsaved longest."""
    inodes = {InodeNo(n): state(float(-n), unsaved_bytes=10) for n in range(2, 12)}

    chosen = select(inodes, {}, 30)

    assert chosen.inodes == (InodeNo(11), InodeNo(10), InodeNo(9))


def test_a_file_larger_than_the_limit_is_taken_alone() -> None:
    """A large file would never be saved."""
    inodes = {FILE: state(0.0, unsaved_bytes=100), OTHER: state(1.0, unsaved_bytes=1)}

    assert select(inodes, {}, 10).inodes == (FILE,)


def test_any_choice_is_closed_under_what_belongs_together() -> None:
    """A commit of a tangle of renames would be half of one."""
    chance = random.Random(7)
    for _ in range(200):
        inodes = {
            InodeNo(n): state(
                chance.random(),
                unsaved_bytes=chance.randrange(50),
                held=chance.random() < 0.1,
                new_folder=n % 5 == 0,
            )
            for n in range(2, 20)
        }
        numbers = [NONE, *inodes]
        names = {}
        for n in range(25):
            before, after = chance.sample(numbers, 2)
            names[InodeNo(chance.choice([1, 5, 10, 15])), b"%d" % n] = NameState(before, after)

        chosen = select(inodes, names, 100)

        taken, left = set(chosen.inodes), set(inodes) - set(chosen.inodes)
        assert not any(inodes[inode].held for inode in taken)
        assert len(chosen.names) == len(set(chosen.names))
        for name, change in names.items():
            sides = {change.before, change.after} - {NONE}
            assert sides <= taken if name in chosen.names else sides <= left
            parent = name[0]
            if name in chosen.names and change.after and parent in inodes:
                assert not inodes[parent].is_new_folder or parent in taken
