"""Only what was written as a record is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobfs.formats.rows import Kind
from blobfs.model.changes import GONE, LocalDirent, LocalInode
from blobfs.types import ROOT_INODE, InodeNo, Serial
from blobfs.volume.journal_records import (
    BLOCK_BYTES,
    HEADER_BYTES,
    Changed,
    Wrote,
    blocks_verify,
    decode_body,
    decode_header,
    encode_body,
    encode_head,
    find_candidates,
    head_verifies,
    payload_checksums,
)
from blobfs.volume.unsaved_rows import DirentState, InodeState

ROW = LocalInode(Kind.FILE, 0o644, 1, 2, 3, 4, 1, 5, 6, ((b"user.a", b"\0"),))
STATE = InodeState(ROW, Serial(7), 8, 9, ((Serial(3), 4),))
REMOVED = InodeState(GONE, Serial(7), 8, 9)
NAMED = DirentState(LocalDirent(InodeNo(2), Kind.FILE), Serial(7), 8)
CHANGED = Changed(
    ((InodeNo(2), STATE), (InodeNo(3), REMOVED), (InodeNo(4), None)),
    (((ROOT_INODE, b"\xff"), NAMED), ((ROOT_INODE, b"b"), None)),
)
OFFSET = 4711


def head_of(body: Changed | Wrote, payload: bytes = b"", offset: int = OFFSET) -> bytes:
    header = 3, Serial(8), Serial(5)
    checksums = payload_checksums(payload)
    return encode_head(header, offset, encode_body(body), checksums, len(payload))


def test_record_comes_back() -> None:
    """Users would find other rows after a remount than before it (P1)."""
    payload = bytes(range(256)) * 600
    head = head_of(Wrote(InodeNo(2), 9, STATE), payload)
    header = decode_header(head)
    assert header is not None
    assert (header.segment, header.serial, header.synced) == (3, 8, 5)
    assert header.head_bytes == len(head)
    body, checksums = decode_body(header, head)
    assert body == Wrote(InodeNo(2), 9, STATE)
    assert blocks_verify(memoryview(payload), checksums, 0)
    head = head_of(CHANGED)
    header = decode_header(head)
    assert header is not None
    assert decode_body(header, head) == (CHANGED, b"")


def test_no_byte_of_a_head_can_change() -> None:
    """A flipped bit on the disk would be replayed as what a user did (P6)."""
    head = head_of(CHANGED)
    for at in range(len(head)):
        flipped = bytearray(head)
        flipped[at] ^= 4
        header = decode_header(bytes(flipped))
        assert header is None or not head_verifies(header, bytes(flipped), OFFSET)


@pytest.mark.parametrize("keep", [0, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 9])
def test_cut_head_does_not_verify(keep: int) -> None:
    """The torn last record of a killed daemon would be replayed."""
    head = head_of(CHANGED)[:keep]
    header = decode_header(head)
    assert header is None or not head_verifies(header, head, OFFSET)


def test_record_counts_at_its_own_place_only() -> None:
    """Who copies a journal into a mounted directory would have it replayed after a crash."""
    head = head_of(CHANGED)
    header = decode_header(head)
    assert header is not None
    assert head_verifies(header, head, OFFSET)
    assert not head_verifies(header, head, OFFSET + 1)


@given(st.integers(1, 3 * BLOCK_BYTES + 5), st.data())
def test_changed_block_is_noticed_and_no_other(length: int, data: st.DataObject) -> None:
    """Users would read damaged bytes, or lose whole files to one damaged block (P6)."""
    payload = bytearray(length)
    checksums = payload_checksums(bytes(payload))
    at = data.draw(st.integers(0, length - 1))
    payload[at] = 1
    for block in range(-(-length // BLOCK_BYTES)):
        view = memoryview(payload)[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
        assert blocks_verify(view, checksums, block) == (block != at // BLOCK_BYTES)


def test_records_are_found_behind_damage() -> None:
    """One damaged record would take all behind it along."""
    records = head_of(CHANGED), head_of(CHANGED, offset=OFFSET + 100)
    found = list(find_candidates(b"rubbish" + records[0] + b"?" + records[1], 3))
    assert found == [7, 8 + len(records[0])]
    assert not list(find_candidates(records[0], 2))
