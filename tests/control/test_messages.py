"""The control protocol: what each side makes of the other's words, also of a newer other's."""

import msgspec
import pytest

from blobfs.control.messages import (
    PROTOCOL,
    Failure,
    MountStatus,
    Ready,
    StatusReply,
    StatusRequest,
    Unmounted,
    UnmountRequest,
    as_error,
    as_failure,
    decode_reply,
    decode_request,
    decode_start_report,
    encode,
)
from blobfs.errors import InUse, Unsupported

MOUNT = MountStatus(mountpoint="/m", source="s3://b", pid=1, read_only=True, state="mounted")


@pytest.mark.parametrize("request_", [StatusRequest(), UnmountRequest()])
def test_requests_arrive(request_: StatusRequest | UnmountRequest) -> None:
    """`blobfs unmount` would be taken for `blobfs status`."""
    line = encode(request_)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_request(line) == request_


@pytest.mark.parametrize("reply", [StatusReply(mount=MOUNT), Unmounted(), Failure(message="a\nb")])
def test_replies_arrive_as_one_line(reply: StatusReply | Unmounted | Failure) -> None:
    """An error message with a line break would break the conversation."""
    assert encode(reply).count(b"\n") == 1
    assert decode_reply(encode(reply)) == reply


def test_start_reports_arrive() -> None:
    """A mount that failed would count as one that worked."""
    assert decode_start_report(encode(Ready())) == Ready()
    failure = Failure(message="no", exit_code=4)
    assert decode_start_report(encode(failure)) == failure


def test_another_protocol_is_named() -> None:
    """After an update, a daemon that still runs would answer with riddles."""
    newer = {"type": "status", "protocol": PROTOCOL + 1, "mount": "of another shape"}
    line = msgspec.json.encode(newer)
    with pytest.raises(Unsupported, match="another version of the control protocol") as refused:
        decode_reply(line)
    assert "same version" in refused.value.hint
    with pytest.raises(Unsupported, match=f"theirs={PROTOCOL + 1} ours={PROTOCOL}"):
        decode_request(line)


def test_unknown_fields_are_ignored() -> None:
    """Each new figure in status would need all daemons to be restarted."""
    fields = msgspec.to_builtins(StatusReply(mount=MOUNT))
    fields["mount"]["new"] = fields["new"] = 1
    assert decode_reply(msgspec.json.encode(fields)) == StatusReply(mount=MOUNT)


@pytest.mark.parametrize("line", [b"", b"GET / HTTP/1.1", b"{}", b'{"protocol":1,"type":"fly"}'])
def test_nonsense_is_refused(line: bytes) -> None:
    """A stray client would bring the daemon down."""
    with pytest.raises(Unsupported, match="not understood"):
        decode_request(line)


def test_an_error_keeps_its_exit_code_on_the_way() -> None:
    """Scripts could not tell a busy mount from one that is not there."""
    said = as_error(as_failure(InUse("files are open", hint="close them")))
    assert (str(said), said.hint, said.exit_code) == ("files are open", "close them", 6)
    assert InUse.exit_code == 6
