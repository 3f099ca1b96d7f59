"""What becomes of two clients' changes, rule by rule.

`theirs` commits first, `ours` is the one that has to make room: its unsaved rows are moved over
what was committed. In the end both have replayed all of it, and see the same.
"""

from collections.abc import Callable

import pytest

from blobfs.formats.commit import NewInode, SetContent
from blobfs.formats.rows import Inline, Kind
from blobfs.model.changes import LocalInode
from blobfs.model.conflict import CONFLICT_OF
from blobfs.model.tree_rules_rename import EXCHANGE
from tests.model.replicas import Replica, Volume

Do = Callable[[Replica], object]
Shown = dict[str, bytes | None]


class Two:
    """Two clients that begin with the same tree."""

    def __init__(self, begin: Do | None = None) -> None:
        self.volume = Volume(2)
        self.theirs, self.ours = self.volume.clients
        if begin is not None:
            begin(self.ours)
            self.volume.commit(self.ours)
            self.volume.deliver(self.theirs)

    def meet(self) -> Shown:
        """Let both commit, theirs first; return what both see in the end."""
        self.volume.commit(self.theirs)
        self.volume.settle()
        assert self.theirs.shown() == self.ours.shown()
        assert not self.ours.inodes
        assert not self.ours.names
        assert self.theirs.base == self.ours.base
        return self.ours.shown()

    def conflict(self, name: str, shown: Shown) -> str:
        """Return the one path in `shown` that is a conflict copy of `name`."""
        stem, _, suffix = name.partition(".")
        begin = f"{stem} (conflict host1 "
        found = [p for p in shown if p.startswith(begin) and suffix in p]
        found = [p for p in found if "/" not in p.removeprefix(begin)]
        assert len(found) == 1, shown
        return found[0]


def files(**contents: bytes) -> Do:
    """Return what makes files in the root."""

    def do(client: Replica) -> None:
        for name, data in contents.items():
            client.write(name, data)

    return do


def tree(client: Replica) -> None:
    """Make a directory `d` with a directory `e` and a file `f` in it."""
    client.mkdir("d")
    client.mkdir("d/e")
    client.write("d/f", b"f")


# -- what commutes ---------------------------------------------------------------------------


def test_different_names_commute() -> None:
    """Two who work in one directory would be in each other's way."""
    two = Two(tree)
    two.theirs.write("d/a", b"a")
    two.ours.write("d/b", b"b")
    assert two.meet() == {"d": None, "d/a": b"a", "d/b": b"b", "d/e": None, "d/f": b"f"}
    assert not two.ours.conflicts


def test_a_write_and_a_chmod_commute() -> None:
    """A chmod elsewhere would cost a conflict copy, or undo the write."""
    two = Two(files(f=b"old"))
    two.theirs.write("f", b"new")
    two.ours.chmod("f", 0o600)
    assert two.meet() == {"f": b"new"}
    assert two.ours.at("f").mode == 0o600


def test_a_chmod_and_a_write_commute() -> None:
    """The other way round."""
    two = Two(files(f=b"old"))
    two.theirs.chmod("f", 0o600)
    two.ours.write("f", b"new")
    assert two.meet() == {"f": b"new"}
    assert two.ours.at("f").mode == 0o600


@pytest.mark.parametrize("writer", ["theirs", "ours"])
def test_a_write_and_a_rename_commute(writer: str) -> None:
    """What was written would be under the old name, or nowhere."""
    two = Two(files(f=b"old"))
    one, other = (two.theirs, two.ours) if writer == "theirs" else (two.ours, two.theirs)
    one.write("f", b"new")
    other.rename("f", "g")
    assert two.meet() == {"g": b"new"}
    assert not two.ours.conflicts


def test_equal_content_makes_no_copy() -> None:
    """Whoever copies the same photos on two machines would have each twice."""
    two = Two(files(f=b"old"))
    for client in (two.theirs, two.ours):
        client.write("f", b"new")
        client.write("g", b"same")
    assert two.meet() == {"f": b"new", "g": b"same"}
    last = two.volume.log[-1][1].operations
    assert not any(isinstance(each, SetContent | NewInode) for each in last), "committed twice"


def test_equal_content_keeps_our_attributes() -> None:
    """A chmod after an equal write would be lost with it."""
    two = Two(files(f=b"old"))
    for client in (two.theirs, two.ours):
        client.write("f", b"new")
        client.write("g", b"same")
    two.ours.chmod("f", 0o600)
    two.ours.chmod("g", 0o640)
    assert two.meet() == {"f": b"new", "g": b"same"}
    modes = [two.theirs.row(two.theirs.find(name)) for name in ("f", "g")]
    assert [row.mode for row in modes if row is not None] == [0o600, 0o640]


def test_the_same_directory_made_twice_is_one() -> None:
    """Each would lose sight of what the other put into it."""
    two = Two()
    for client, name in ((two.theirs, "a"), (two.ours, "b")):
        client.mkdir("d")
        client.mkdir("d/e")
        client.write(f"d/e/{name}", name.encode())
        client.write("d/same", b"same")
    shown = two.meet()
    assert shown == {"d": None, "d/e": None, "d/e/a": b"a", "d/e/b": b"b", "d/same": b"same"}
    assert not two.ours.conflicts


def test_attributes_merge_one_by_one() -> None:
    """The later commit would undo the earlier one's chmod by its chown."""
    two = Two(files(f=b"f"))
    two.theirs.chmod("f", 0o600)
    two.theirs.setxattr("f", b"user.a", b"1")
    two.ours.setxattr("f", b"user.b", b"2")
    two.meet()
    row = two.ours.row(two.ours.find("f"))
    assert row is not None
    assert (row.mode, row.xattrs) == (0o600, ((b"user.a", b"1"), (b"user.b", b"2")))


def test_of_two_chmods_the_later_commit_stands() -> None:
    """Nobody could say which of them did."""
    two = Two(files(f=b"f"))
    two.theirs.chmod("f", 0o600)
    two.ours.chmod("f", 0o640)
    two.meet()
    assert two.theirs.at("f").mode == 0o640


def test_a_directorys_time_is_the_later_one() -> None:
    """It would go back, and a backup program would skip the directory."""
    two = Two(tree)
    two.theirs.now_ns = 1 << 40
    two.theirs.write("d/a", b"a")
    two.ours.write("d/b", b"b")
    two.meet()
    assert two.ours.at("d").mtime_ns > 1 << 40


def test_the_same_removal_twice_is_one() -> None:
    """The second one could not be replayed."""
    two = Two(tree)
    for client in (two.theirs, two.ours):
        client.unlink("d/f")
        client.rmdir("d/e")
        client.rmdir("d")
    assert two.meet() == {}


# -- C1: both wrote ----------------------------------------------------------------------------


def test_c1_both_changed_a_file() -> None:
    """One of the two would be gone."""
    two = Two(files(**{"f.txt": b"old"}))
    two.theirs.write("f.txt", b"theirs")
    two.ours.write("f.txt", b"ours")
    shown = two.meet()
    copy = two.conflict("f.txt", shown)
    assert shown == {"f.txt": b"theirs", copy: b"ours"}
    assert copy.endswith(" 2).txt"), "the number of the entry that it met"
    assert two.theirs.at(copy).nlink == 1
    assert two.theirs.at(copy).xattrs == ((CONFLICT_OF, b"f.txt"),)


def test_c1_what_is_appended_lies_over_what_was_there() -> None:
    """The copy would begin with the other's bytes, or with zeros."""
    two = Two(files(f=b"old"))
    two.theirs.write("f", b"theirs")
    two.ours.append(two.ours.find("f"), b" and ours")
    shown = two.meet()
    assert shown == {"f": b"theirs", two.conflict("f", shown): b"old and ours"}


def test_c1_both_made_a_file() -> None:
    """One of the two would be gone."""
    two = Two()
    two.theirs.write("f", b"theirs")
    two.ours.write("f", b"ours")
    shown = two.meet()
    assert shown == {"f": b"theirs", two.conflict("f", shown): b"ours"}


def test_c1_a_file_and_a_directory_of_one_name() -> None:
    """One of the two would be gone, with all that lies in it."""
    two = Two()
    two.theirs.write("d", b"file")
    two.ours.mkdir("d")
    two.ours.write("d/f", b"f")
    shown = two.meet()
    copy = two.conflict("d", shown)
    assert shown == {"d": b"file", copy: None, f"{copy}/f": b"f"}


def test_c1_attributes_stay_with_the_file() -> None:
    """A rename would move the copy, and leave the original under its old name."""
    two = Two(files(f=b"old"))
    two.theirs.write("f", b"theirs")
    two.ours.write("f", b"ours")
    two.ours.rename("f", "g")
    two.ours.chmod("g", 0o600)
    shown = two.meet()
    assert shown == {"g": b"theirs", two.conflict("g", shown): b"ours"}
    assert two.ours.at("g").mode == 0o600


def test_c1_other_names_stay_with_the_file() -> None:
    """A hard link would lead to the copy at one name, and to the original at the other."""
    two = Two(files(f=b"old"))
    two.ours.link("f", "g")
    two.theirs.write("f", b"theirs")
    two.ours.write("f", b"ours")
    shown = two.meet()
    copies = [path for path in shown if "conflict" in path]
    assert [shown[path] for path in copies] == [b"ours"]
    assert (shown["f"], shown["g"]) == (b"theirs", b"theirs")


def test_c1_two_conflicts_at_one_name_in_one_entry() -> None:
    """The second copy would take the first one's name."""
    two = Two(files(f=b"old"))
    two.ours.write(two_name := "g", b"ours too")
    two.theirs.write("f", b"theirs")
    two.theirs.write(two_name, b"theirs too")
    two.ours.write("f", b"ours")
    two.ours.link("f", "h")
    shown = two.meet()
    assert sorted(v for k, v in shown.items() if "conflict" in k) == [b"ours", b"ours too"]


def test_c1_a_long_name_is_cut() -> None:
    """The copy could not be stored under 255 bytes."""
    name = "x" * 255
    two = Two()
    two.theirs.write(name, b"theirs")
    two.ours.write(name, b"ours")
    shown = two.meet()
    assert sorted(shown.values()) == [b"ours", b"theirs"]
    assert max(map(len, shown)) == 255


# -- C2: what is open -----------------------------------------------------------------------


def test_c2_a_reader_keeps_what_it_opened() -> None:
    """It would read half of the one content and half of the other."""
    two = Two(files(f=b"old"))
    inode = two.ours.open("f")
    two.theirs.write("f", b"theirs")
    two.volume.commit(two.theirs)
    rebased = two.ours.take_theirs(two.volume.log[-1][1].operations)
    opened = rebased.numbers[inode]
    assert two.ours.content(opened) == b"old"
    assert two.ours.shown() == {"f": b"theirs"}
    assert not two.ours.conflicts
    assert two.meet() == {"f": b"theirs"}


def test_c2_a_reader_keeps_what_was_removed() -> None:
    """A film would end in the middle because somebody tidied up elsewhere."""
    two = Two(files(f=b"old"))
    inode = two.ours.open("f")
    two.theirs.unlink("f")
    two.volume.commit(two.theirs)
    rebased = two.ours.take_theirs(two.volume.log[-1][1].operations)
    assert two.ours.content(rebased.numbers[inode]) == b"old"
    assert two.ours.shown() == {}
    assert two.meet() == {}


def test_c2_what_was_removed_here_and_is_open_stays_readable() -> None:
    """The other's new content would show through a handle of the old one."""
    two = Two(files(f=b"old"))
    inode = two.ours.open("f")
    two.ours.append(inode, b" and more")
    two.ours.unlink("f")
    two.theirs.write("f", b"theirs")
    two.volume.commit(two.theirs)
    rebased = two.ours.take_theirs(two.volume.log[-1][1].operations)
    assert two.ours.content(rebased.numbers[inode]) == b"old and more"
    assert two.meet() == {"f": b"theirs"}


# -- C3: saves by rename and by backup -------------------------------------------------------


def save_by_rename(client: Replica, name: str, data: bytes) -> None:
    client.write(f"{name}.tmp", data)
    client.rename(f"{name}.tmp", name)


def save_by_backup(client: Replica, name: str, data: bytes) -> None:
    client.rename(name, f"{name}~")
    client.write(name, data)


def save_in_place(client: Replica, name: str, data: bytes) -> None:
    client.write(name, data)


SAVES = [save_by_rename, save_by_backup, save_in_place]


@pytest.mark.parametrize("theirs", SAVES)
@pytest.mark.parametrize("ours", SAVES)
def test_c3_both_saved(ours: Callable[..., None], theirs: Callable[..., None]) -> None:
    """What somebody wrote in an editor would be gone, whichever editor it was."""
    two = Two(files(f=b"old"))
    theirs(two.theirs, "f", b"theirs")
    ours(two.ours, "f", b"ours")
    shown = two.meet()
    assert shown["f"] == b"theirs"
    assert shown[two.conflict("f", shown)] == b"ours"
    assert shown.get("f~") in (None, b"old")


@pytest.mark.parametrize("theirs", SAVES)
@pytest.mark.parametrize("ours", SAVES)
def test_c3_both_saved_the_same(ours: Callable[..., None], theirs: Callable[..., None]) -> None:
    """Each save of the same text would leave a copy."""
    two = Two(files(f=b"old"))
    theirs(two.theirs, "f", b"same")
    ours(two.ours, "f", b"same")
    shown = two.meet()
    assert shown["f"] == b"same"
    assert not [path for path in shown if "conflict" in path]


@pytest.mark.parametrize("save", SAVES)
def test_c3_one_saved(save: Callable[..., None]) -> None:
    """A save would conflict with nothing at all."""
    two = Two(files(f=b"old", g=b"g"))
    two.theirs.write("g", b"new")
    save(two.ours, "f", b"ours")
    shown = two.meet()
    assert (shown["f"], shown["g"]) == (b"ours", b"new")
    assert not two.ours.conflicts


# -- C4: edit against delete -----------------------------------------------------------------


def test_c4_an_edit_revives() -> None:
    """An hour's work would be gone because somebody tidied up elsewhere."""
    two = Two(files(f=b"old"))
    number = two.ours.find("f")
    two.theirs.unlink("f")
    two.ours.append(number, b" and ours")
    assert two.meet() == {"f": b"old and ours"}
    assert two.ours.find("f") != number, "a number of what was removed is used up (M1)"


def test_c4_an_edit_revives_its_directories() -> None:
    """It would lie in a directory that is not there."""
    two = Two(tree)
    two.ours.write("d/e/g", b"g")
    two.volume.commit(two.ours)
    two.volume.deliver(two.theirs)
    for path in ("d/e/g", "d/f"):
        two.theirs.unlink(path)
    two.theirs.rmdir("d/e")
    two.theirs.rmdir("d")
    two.ours.write("d/e/g", b"new")
    assert two.meet() == {"d": None, "d/e": None, "d/e/g": b"new"}


def test_c4_new_entries_revive_their_directory() -> None:
    """What was put into a directory would be gone with it."""
    two = Two(tree)
    for remove in (lambda: two.theirs.unlink("d/f"), lambda: two.theirs.rmdir("d/e")):
        remove()
    two.theirs.rmdir("d")
    two.ours.write("d/new", b"new")
    two.ours.mkdir("d/e/deep")
    assert two.meet() == {"d": None, "d/e": None, "d/e/deep": None, "d/new": b"new"}


def test_c4_a_taken_name_gets_the_conflict_name() -> None:
    """What came back would hide what is there now."""
    two = Two(tree)
    two.theirs.unlink("d/f")
    two.theirs.rmdir("d/e")
    two.theirs.rmdir("d")
    two.theirs.write("d", b"file")
    two.ours.write("d/f", b"ours")
    shown = two.meet()
    copy = two.conflict("d", shown)
    assert shown == {"d": b"file", copy: None, f"{copy}/f": b"ours"}


def test_c4_a_rename_revives() -> None:
    """What was moved to safety would be gone."""
    two = Two(tree)
    two.theirs.unlink("d/f")
    two.ours.rename("d/f", "safe")
    assert two.meet() == {"d": None, "d/e": None, "safe": b"f"}


def test_c4_a_link_revives() -> None:
    """What was linked elsewhere would be gone."""
    two = Two(tree)
    two.theirs.unlink("d/f")
    two.ours.link("d/f", "safe")
    assert two.meet() == {"d": None, "d/e": None, "safe": b"f"}


def test_c4_a_moved_directory_revives() -> None:
    """What was put into it after the move would lie nowhere."""
    two = Two(tree)
    two.theirs.rmdir("d/e")
    two.ours.rename("d/e", "e")
    two.ours.write("e/new", b"new")
    assert two.meet() == {"d": None, "d/f": b"f", "e": None, "e/new": b"new"}


def test_c4_attributes_do_not_revive() -> None:
    """A chmod -R would bring back what was removed everywhere."""
    two = Two(tree)
    two.theirs.unlink("d/f")
    two.theirs.rmdir("d/e")
    two.ours.chmod("d/f", 0o600)
    two.ours.chmod("d/e", 0o700)
    two.ours.setxattr("d/f", b"user.a", b"1")
    assert two.meet() == {"d": None}


def test_c4_a_removal_does_not_take_what_was_edited() -> None:
    """rm -r would take an edit that whoever ran it never saw."""
    two = Two(tree)
    two.theirs.write("d/f", b"new")
    two.ours.unlink("d/f")
    two.ours.rmdir("d/e")
    two.ours.rmdir("d")
    assert two.meet() == {"d": None, "d/f": b"new"}


def test_c4_a_removal_takes_what_was_only_chmodded() -> None:
    """What was removed would come back for nothing."""
    two = Two(tree)
    two.theirs.chmod("d/f", 0o600)
    two.ours.unlink("d/f")
    assert two.meet() == {"d": None, "d/e": None}


def test_c4_a_removal_of_one_name_is_no_removal() -> None:
    """A file with two names would keep one that was removed."""
    two = Two(files(f=b"old"))
    two.ours.link("f", "g")
    two.volume.commit(two.ours)
    two.volume.deliver(two.theirs)
    two.theirs.write("f", b"new")
    two.ours.unlink("g")
    assert two.meet() == {"f": b"new"}


def test_c4_two_removals_of_different_names_spare_an_edit() -> None:
    """Each removed one name, and the edit would go with the last."""
    two = Two(files(f=b"old"))
    two.ours.link("f", "g")
    two.volume.commit(two.ours)
    two.volume.deliver(two.theirs)
    two.theirs.unlink("f")
    two.ours.unlink("g")
    two.ours.write("f", b"ours")
    assert list(two.meet().values()) == [b"ours"]


def test_c4_what_others_renamed_is_not_removed() -> None:
    """Somebody's rename would end in nothing."""
    two = Two(files(f=b"old"))
    two.theirs.rename("f", "g")
    two.ours.unlink("f")
    assert two.meet() == {"g": b"old"}


# -- C5: moves -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["d/f", "d/e"])
def test_c5_of_two_moves_the_later_is_dropped(path: str) -> None:
    """A file would have two names, and a directory would lie in two places."""
    two = Two(tree)
    two.theirs.rename(path, "theirs")
    two.ours.rename(path, "ours")
    shown = two.meet()
    assert set(shown) == {"d", "theirs", "d/e" if path == "d/f" else "d/f"}
    assert [(each.parent, each.name) for each in two.ours.conflicts] == [(1, b"theirs")]


@pytest.mark.parametrize("path", ["d/f", "d/e"])
def test_c5_the_same_move_twice_is_one(path: str) -> None:
    """It would be a conflict of nothing with nothing."""
    two = Two(tree)
    for client in (two.theirs, two.ours):
        client.rename(path, "moved")
    assert "moved" in two.meet()
    assert not two.ours.conflicts


def test_c5_a_hard_link_is_no_move() -> None:
    """One of two new names would be gone."""
    two = Two(files(f=b"f"))
    two.theirs.link("f", "g")
    two.ours.link("f", "h")
    assert two.meet() == {"f": b"f", "g": b"f", "h": b"f"}


def test_c5_a_move_keeps_what_it_replaced() -> None:
    """The file that a dropped move replaced would be gone, though nothing took its place."""
    two = Two(files(f=b"f", old=b"old"))
    two.theirs.rename("f", "theirs")
    two.ours.rename("f", "old")
    assert two.meet() == {"theirs": b"f", "old": b"old"}


def test_c5_no_directory_lies_in_itself() -> None:
    """All below two directories would be out of reach, for everybody."""

    def begin(client: Replica) -> None:
        client.mkdir("a")
        client.mkdir("b")

    two = Two(begin)
    two.theirs.rename("a", "b/a")
    two.ours.rename("b", "a/b")
    assert two.meet() == {"b": None, "b/a": None}
    assert [each.name for each in two.ours.conflicts] == [b"b"]


def test_c5_a_cycle_by_way_of_a_new_directory() -> None:
    """It would not be seen where the directory in between is in no commit."""

    def begin(client: Replica) -> None:
        client.mkdir("a")
        client.mkdir("b")

    two = Two(begin)
    two.theirs.rename("a", "b/a")
    two.ours.mkdir("a/new")
    two.ours.rename("b", "a/new/b")
    assert two.meet() == {"b": None, "b/a": None, "b/a/new": None}


def test_c5_rename_over_a_directory_that_gained_a_child() -> None:
    """What was put into it would be gone, or lie nowhere."""
    two = Two(tree)
    two.ours.mkdir("new")
    two.ours.write("new/g", b"g")
    two.theirs.write("d/e/child", b"child")
    two.ours.rename("new", "d/e")
    shown = two.meet()
    assert shown["d/e/child"] == b"child"
    copy = two.conflict("d/e", shown)
    assert shown[f"{copy}/g"] == b"g"


def test_c5_rmdir_of_a_directory_that_gained_a_child() -> None:
    """The same for a plain removal, and for what it lies in."""
    two = Two(tree)
    two.theirs.mkdir("d/e/child")
    two.ours.unlink("d/f")
    two.ours.rmdir("d/e")
    two.ours.rmdir("d")
    assert two.meet() == {"d": None, "d/e": None, "d/e/child": None}


def test_c5_rmdir_of_a_directory_that_something_was_moved_into() -> None:
    """What was moved there would be gone."""
    two = Two(tree)
    two.theirs.rename("d/f", "d/e/f")
    two.ours.rmdir("d/e")
    assert two.meet() == {"d": None, "d/e": None, "d/e/f": b"f"}


def test_c5_moved_out_of_a_directory_that_was_removed_around_it() -> None:
    """A directory that others had moved on would be looked for in one that is gone."""
    two = Two(tree)
    two.theirs.rename("d/e", "d/moved")
    two.ours.rename("d/e", "e")
    two.ours.unlink("d/f")
    two.ours.rmdir("d")
    assert two.meet() == {"d": None, "d/moved": None}


def test_c5_an_exchange_against_an_edit() -> None:
    """One of two files that changed places would be gone."""
    two = Two(files(f=b"f", g=b"g"))
    two.theirs.write("f", b"new")
    two.ours.rename("f", "g", EXCHANGE)
    shown = two.meet()
    assert sorted(v for v in shown.values() if v is not None) == [b"g", b"new"]


# -- chains ----------------------------------------------------------------------------------


def test_what_is_made_in_a_directory_goes_with_it() -> None:
    """It would lie under a name that is not there any more."""
    two = Two(tree)
    two.theirs.rename("d", "renamed")
    two.theirs.rename("renamed/e", "e")
    two.ours.write("d/e/new", b"new")
    two.ours.write("d/f", b"edited")
    expected = {"renamed": None, "renamed/f": b"edited", "e": None, "e/new": b"new"}
    assert two.meet() == expected


def test_many_entries_one_after_the_other() -> None:
    """Who was offline for a while would end elsewhere than who met each entry at once."""
    two = Two(tree)
    two.ours.append(two.ours.find("d/f"), b" ours")
    two.ours.mkdir("d/e/ours")
    for step in (
        lambda: two.theirs.rename("d/e", "e"),
        lambda: two.theirs.write("d/f", b"one"),
        lambda: two.theirs.write("d/f", b"two"),
        lambda: two.theirs.unlink("d/f"),
        lambda: two.theirs.rmdir("d"),
    ):
        step()
        two.volume.commit(two.theirs)
    shown = two.meet()
    copy = [path for path in shown if "conflict" in path]
    assert [shown[path] for path in copy] == [b"f ours"]
    assert "e/ours" in shown


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_name_keeps_the_row_that_it_leads_to(is_folder: bool) -> None:
    """A rename would lead to nothing where others do the same chmod, and remove it after that."""
    two = Two(tree)
    path = "d/e" if is_folder else "d/f"
    two.theirs.chmod(path, 0o600)
    two.volume.commit(two.theirs)
    two.ours.rename(path, "moved")
    two.ours.chmod("moved", 0o600)
    two.volume.deliver(two.ours)
    (two.theirs.rmdir if is_folder else two.theirs.unlink)(path)
    assert two.meet()["moved"] == (None if is_folder else b"f")


def test_rows_that_nobody_contests_are_left_alone() -> None:
    """Each commit of another would cost as much as all that is unsaved here."""
    two = Two(tree)
    two.ours.write("d/new", b"new")
    two.ours.chmod("d/f", 0o600)
    two.theirs.write("elsewhere", b"e")
    two.volume.commit(two.theirs)
    assert not two.ours.take_theirs(two.volume.log[-1][1].operations)


def test_a_copy_is_a_file_like_any_other() -> None:
    """A conflict copy that is changed, renamed or removed would come back, or be lost."""
    two = Two(files(f=b"old"))
    two.theirs.write("f", b"theirs")
    two.ours.append(two.ours.find("f"), b" ours")
    two.volume.commit(two.theirs)
    two.volume.deliver(two.ours)
    copy = two.conflict("f", two.ours.shown())
    row = two.ours.row(two.ours.find(copy))
    assert isinstance(row, LocalInode)
    assert (row.kind, row.bound, row.nlink) == (Kind.FILE, Inline(b"old"), 1)
    two.ours.append(two.ours.find(copy), b" more")
    two.ours.rename(copy, "g")
    assert two.meet() == {"f": b"theirs", "g": b"old ours more"}
