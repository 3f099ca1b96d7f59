"""`volume`, `head` and clients' records say what they say, and refuse what they do not know."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from blobfs.errors import Damaged, Unsupported
from blobfs.formats.client import ClientRecord, decode_client, encode_client
from blobfs.formats.head import (
    DEFAULT_TRASH_S,
    Head,
    VolumeSettings,
    decode_head,
    encode_head,
)
from blobfs.formats.json_object import MOST_JSON_BYTES
from blobfs.formats.keys import checkpoint_name, client_key
from blobfs.formats.volume import VolumeInfo, decode_volume, encode_volume
from blobfs.types import ClientId, Seq

ID = bytes(range(16))
VOLUME = VolumeInfo(id=ID, created_ns=5, compression="none")
HEAD = Head(floor=Seq(5), checkpoint=checkpoint_name(Seq(9), bytes(32)), owner=ClientId(ID))
SET_HEAD = Head(settings=VolumeSettings(quota_bytes=1 << 40, trash_s=0))
CLIENT = ClientRecord(
    id=ClientId(ID),
    host="wörkshop",
    seq=Seq(9),
    needs_from=Seq(3),
    lease_until_ns=7,
    waiting_until_ns=8,
    program="0.1",
)
KEY = client_key(CLIENT.id)

Case = tuple[bytes, Callable[[bytes], object]]

CASES: dict[str, Case] = {
    "volume": (encode_volume(VOLUME), lambda data: decode_volume(data, key=KEY)),
    "head": (encode_head(HEAD), lambda data: decode_head(data, key=KEY)),
    "head with settings": (encode_head(SET_HEAD), lambda data: decode_head(data, key=KEY)),
    "client": (encode_client(CLIENT), lambda data: decode_client(data, key=KEY)),
}

every_object = pytest.mark.parametrize(("data", "decode"), CASES.values(), ids=list(CASES))


def changed(data: bytes, **fields: Any) -> bytes:
    """Return the object with other fields; None takes one away."""
    value = {**msgspec.json.decode(data), **fields}
    return msgspec.json.encode({name: each for name, each in value.items() if each is not None})


def test_they_come_back() -> None:
    """Users would find a volume, or a machine of theirs, to be another."""
    assert [decode(data) for data, decode in CASES.values()] == [VOLUME, HEAD, SET_HEAD, CLIENT]


@every_object
def test_people_can_read_them(data: bytes, decode: object) -> None:
    """Users who look into their bucket would not see what it is."""
    assert data.decode().startswith('{\n  "format": "blobfs ')


@every_object
class TestRefusals:
    def test_what_is_cut_is_damaged(self, data: bytes, decode: Callable[[bytes], object]) -> None:
        """Users would go on with half a description."""
        for kept in range(len(data) - 2):
            with pytest.raises(Damaged, match=KEY):
                decode(data[:kept])

    def test_another_object_is_damaged(
        self, data: bytes, decode: Callable[[bytes], object]
    ) -> None:
        """Users would go on with something that was put there by mistake."""
        with pytest.raises(Damaged, match="format"):
            decode(changed(data, format="somebody's"))

    def test_a_newer_version_is_newer(self, data: bytes, decode: Callable[[bytes], object]) -> None:
        """Users of an old version would write what breaks a new volume."""
        with pytest.raises(Unsupported, match="version 2"):
            decode(changed(data, version=2, id="spelled otherwise", floor="too"))

    def test_an_unknown_need_is_newer(self, data: bytes, decode: Callable[[bytes], object]) -> None:
        """Users of an old version would write what breaks a new volume."""
        with pytest.raises(Unsupported, match="telepathy"):
            decode(changed(data, needs=["telepathy"]))

    def test_a_huge_object_is_damaged(self, data: bytes, decode: Callable[[bytes], object]) -> None:
        """Users would lose the mount to one object that swells in memory."""
        with pytest.raises(Damaged, match="bytes"):
            decode(data + b" " * MOST_JSON_BYTES)

    def test_values_within_values_are_bounded(
        self, data: bytes, decode: Callable[[bytes], object]
    ) -> None:
        """Users would lose the mount to one object that exhausts the stack."""
        with pytest.raises(Damaged):
            decode(data.replace(b"{", b'{"more":' + b"[" * 30_000, 1))


class TestVolume:
    @pytest.mark.parametrize("field", ["layout", "chunking", "chunk_id", "compression", "cipher"])
    def test_an_unknown_value_is_newer(self, field: str) -> None:
        """Users of an old version would write plain bytes into an encrypted volume."""
        with pytest.raises(Unsupported, match=f"{field} is 'other'"):
            decode_volume(changed(encode_volume(VOLUME), **{field: "other"}), key="k")

    @pytest.mark.parametrize("field", ["id", "cipher", "created_ns"])
    def test_a_missing_field_is_damaged(self, field: str) -> None:
        """Users would go on with what was never said."""
        with pytest.raises(Damaged, match=field):
            decode_volume(changed(encode_volume(VOLUME), **{field: None}), key="k")

    def test_a_field_for_people_is_passed_over(self) -> None:
        """Users of an old version would be shut out for a remark."""
        assert decode_volume(changed(encode_volume(VOLUME), label="photos"), key="k") == VOLUME

    def test_what_no_reader_takes_is_not_written(self) -> None:
        """Users would make a volume that cannot be opened."""
        for wrong in (replace(VOLUME, id=b"short"), replace(VOLUME, cipher="rot13")):
            with pytest.raises(ValueError, match="no reader"):
                encode_volume(wrong)


class TestHead:
    def test_an_unknown_field_is_newer(self) -> None:
        """An old version would drop from `head` what others rely on."""
        with pytest.raises(Unsupported, match="'trash'"):
            decode_head(changed(encode_head(HEAD), trash=1), key="k")

    @pytest.mark.parametrize("checkpoint", ["", "00000000000000000009", "../../etc/passwd"])
    def test_a_checkpoint_is_named_like_one(self, checkpoint: str) -> None:
        """A reader would ask the store for whatever key it is told."""
        with pytest.raises(Damaged, match="checkpoint"):
            decode_head(changed(encode_head(HEAD), checkpoint=checkpoint), key="k")

    def test_the_floor_is_not_above_the_checkpoint(self) -> None:
        """Users would lose what lies between the two."""
        with pytest.raises(Damaged, match="floor"):
            decode_head(changed(encode_head(HEAD), floor=10), key="k")
        with pytest.raises(ValueError, match="floor"):
            encode_head(Head(floor=Seq(1)))

    @pytest.mark.parametrize(
        "settings",
        [
            VolumeSettings(quota_bytes=0),
            VolumeSettings(trash_s=5),
            VolumeSettings(quota_bytes=(1 << 63) - 1, trash_s=(1 << 63) - 1),
        ],
    )
    def test_each_setting_comes_back(self, settings: VolumeSettings) -> None:
        """Users would set a quota, and find another one or none."""
        head = replace(HEAD, settings=settings)
        assert decode_head(encode_head(head), key="k") == head

    def test_nothing_set_is_nothing_said(self) -> None:
        """A version that knows no settings would refuse a volume that has none."""
        assert b"settings" not in encode_head(HEAD)
        assert decode_head(changed(encode_head(HEAD), settings={}), key="k") == HEAD
        assert HEAD.settings.trash_time_s == DEFAULT_TRASH_S == 30 * 24 * 3600

    def test_an_unknown_setting_is_newer(self) -> None:
        """A client would go against what the volume's owner asked of all of them."""
        with pytest.raises(Unsupported, match="'read_only'"):
            decode_head(changed(encode_head(HEAD), settings={"read_only": True}), key="k")

    @pytest.mark.parametrize(
        "settings",
        [None, 5, [], {"quota_bytes": None}, {"quota_bytes": -1}, {"trash_s": 1 << 63}],
        ids=repr,
    )
    def test_settings_that_make_no_sense_are_damaged(self, settings: Any) -> None:
        """A broken quota would be taken for none, or for zero."""
        data = msgspec.json.encode({**msgspec.json.decode(encode_head(HEAD)), "settings": settings})
        with pytest.raises(Damaged, match="settings"):
            decode_head(data, key="k")


class TestClient:
    def test_a_record_of_another_is_damaged(self) -> None:
        """Users would see one machine's needs taken for another's, and lose what it reads."""
        with pytest.raises(Damaged, match="of client"):
            decode_client(encode_client(CLIENT), key=client_key(ClientId(bytes(16))))

    def test_what_may_be_left_out_may(self) -> None:
        """Users of a new version would not see the clients of an old one."""
        data = changed(encode_client(CLIENT), waiting_until_ns=None, program=None, needs=None)
        assert decode_client(data, key=KEY) == replace(CLIENT, waiting_until_ns=0, program="")
