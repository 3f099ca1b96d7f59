"""Which blocks travel together."""

from blobfs.model.coalesce import Place, Run, join


def place(segment: int, offset: int, length: int = 4096) -> Place:
    return Place(segment, offset, length, checksum=0)


def test_neighbours_come_in_one_request() -> None:
    """Users would pay a round trip for each block."""
    assert join([(n, None) for n in range(3, 8)], 16) == [Run(3, 8, ())]


def test_runs_are_bounded() -> None:
    """Users would wait for a huge body before the first byte, and hold it in memory twice."""
    assert [(run.first, run.stop) for run in join([(n, None) for n in range(5)], 2)] == [
        (0, 2),
        (2, 4),
        (4, 5),
    ]


def test_gap_separates() -> None:
    """Users would download what they have."""
    assert join([(1, None), (3, None)], 16) == [Run(1, 2, ()), Run(3, 4, ())]


def test_disk_and_store_separate() -> None:
    """Users would download what lies on their disk."""
    here = place(1, 0)
    assert join([(0, None), (1, here), (2, None)], 16) == [
        Run(0, 1, ()),
        Run(1, 2, (here,)),
        Run(2, 3, ()),
    ]


def test_only_neighbours_on_disk_are_read_together() -> None:
    """Users would be given bytes of other files."""
    places = [place(1, 0), place(1, 4096), place(2, 8192), place(2, 4096)]
    runs = join(list(enumerate(places)), 16)
    assert [run.places for run in runs] == [tuple(places[:2]), (places[2],), (places[3],)]
