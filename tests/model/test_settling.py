"""When a file is worth saving."""

from blobfs.model.settling import Settling
from blobfs.types import InodeNo

FILE = InodeNo(5)


def settling() -> Settling:
    return Settling(settle_s=0.5, open_s=30.0, most_s=300.0)


def test_a_closed_file_is_due_soon_after_its_last_close() -> None:
    """Programs that write a file in several goes would upload it several times."""
    uses = settling()
    uses.opened(FILE)
    uses.closed(FILE, 1.0)
    uses.opened(FILE)
    uses.closed(FILE, 2.0)

    assert uses.due_s(FILE, 0.0) == 2.5


def test_an_open_file_is_due_when_nobody_wrote_for_a_while() -> None:
    """A file that stays open would never be saved."""
    uses = settling()
    uses.opened(FILE)
    uses.touched(FILE, 10.0)

    assert uses.due_s(FILE, 0.0) == 40.0


def test_a_second_writer_keeps_a_file_open() -> None:
    """It would be saved in the middle of a write, because somebody else closed it."""
    uses = settling()
    uses.opened(FILE)
    uses.opened(FILE)
    uses.closed(FILE, 1.0)

    assert uses.writers(FILE) == 1
    assert uses.due_s(FILE, 0.0) == 31.0


def test_a_file_written_without_a_pause_does_not_wait_for_ever() -> None:
    """A log that grows every second would be unsaved for months."""
    uses = settling()
    uses.opened(FILE)
    uses.touched(FILE, 1000.0)

    assert uses.due_s(FILE, 720.0) == 1020.0


def test_what_nobody_opened_is_due_after_the_same_moment() -> None:
    """A rename would wait for a close that never comes."""
    assert settling().due_s(FILE, 7.0) == 7.5


def test_a_directory_waits_while_entries_are_made_in_it() -> None:
    """Unpacking an archive would make commits of nothing but the times of directories."""
    assert settling().calm_s(since_s=10.0, touched_s=12.0) == 12.5


def test_a_directory_that_is_never_left_alone_does_not_wait_for_ever() -> None:
    """Its names would be on this machine alone for as long as a program makes and removes some."""
    assert settling().calm_s(since_s=10.0, touched_s=60.0) == 40.0


def test_a_directory_waits_no_shorter_than_files_do() -> None:
    """Whoever lets files settle for long would see directories saved without them."""
    uses = Settling(settle_s=3600.0, open_s=30.0, most_s=300.0)

    assert uses.calm_s(since_s=10.0, touched_s=10.0) == 3610.0


def test_a_closed_file_that_was_saved_is_forgotten_and_an_open_one_is_not() -> None:
    """Memory would grow with every file ever written; or an open file counted as closed."""
    uses = settling()
    uses.opened(FILE)
    uses.saved(FILE)
    assert uses.writers(FILE) == 1
    uses.closed(FILE, 1.0)
    uses.saved(FILE)

    assert uses.due_s(FILE, 100.0) == 100.5
