"""Do what a client does, one step at a time; programs write meanwhile, and it may be killed.

Each step is one request to the bucket, or one durable change of the client's own disk, so a kill
may come between any two.
"""

from collections.abc import Callable

from blobfs.model.chain import Position
from tests.protocol import committing, following
from tests.protocol.flow import Protocol, Turn, Turns, at_mount, catch_up, go_on, rest
from tests.protocol.rules import Without
from tests.protocol.values import (
    ALONE,
    ORIGIN,
    At,
    Bucket,
    Client,
    Left,
    Number,
    Then,
    Tree,
    Unsaved,
)

StepOf = Callable[[Protocol, Bucket, Client, Left], Turns]


def steps(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Yield all that may happen to a client next."""
    yield from STEPS[client.at](rules, bucket, client, left)
    if client.at in (At.MOUNT, At.STOPPED):
        return
    if client.writes and client.at not in ALONE and client.then is not Then.MOUNT:
        yield _write(rules, client)
    before = f"before it can {client.at}"
    if left.crashes:
        spent = left._replace(crashes=left.crashes - 1)
        yield Turn("is killed", "", at_mount(client), left=spent, about=before)
    if left.rebuilds:
        spent = left._replace(rebuilds=left.rebuilds - 1)
        anew = at_mount(client)._replace(seq=0, chain=ORIGIN, tree=Tree())
        yield Turn("is killed, its tree lost", "", anew, left=spent, about=before)


def _write(rules: Protocol, client: Client) -> Turn:
    """Let a program do something; it is acknowledged when it is in the journal (P1)."""
    op = f"{client.machine}{client.writes}"
    base = _shown(rules, client) if client.is_sharing else None
    unsaved = Unsaved(op, next_number(rules, client), base)
    after = client._replace(journal=(*client.journal, unsaved), writes=client.writes - 1)
    after = rest(rules, after) if after.at is At.IDLE else after
    return Turn("takes a write", "", after, about=op)


def _shown(rules: Protocol, client: Client) -> str:
    """Return what a program sees under the shared name (C2)."""
    if client.journal and rules.without is not Without.L6_BASE:
        return client.journal[-1].op
    return client.tree.shared


def next_number(rules: Protocol, client: Client) -> Number:
    """Return the inode number that the next file gets (M1)."""
    unsaved = (each.number for each in client.journal)
    used = (*rules.history.replayed(client.chain).numbers, *unsaved)
    return client.id, max((nth for owner, nth in used if owner == client.id), default=0) + 1


def _mount(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Look whether there is a volume; lost marks are not emptiness (L5)."""
    if bucket.has_volume and (bucket.has_head or rules.without is Without.L5_HEAD):
        floor = bucket.floor if bucket.has_head else 0
        if Position(client.seq, client.chain).is_cut_off(floor):  # type: ignore[arg-type]
            client = client._replace(first=bucket.canon[bucket.checkpoint - 1])
        yield Turn(At.MOUNT, "there is one", catch_up(rules, client, Then.MOUNT))
    elif not bucket.has_volume and rules.without is Without.L5_VOLUME:
        yield go_on(rules, At.MOUNT, "none", client._replace(since=len(bucket.canon)))


def _idle(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Look for news, as often as somebody wants to."""
    if client.looks:
        looking = client._replace(looks=client.looks - 1)
        yield Turn("looks for news", "", catch_up(rules, looking, Then.IDLE))


def _stopped(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Do nothing any more: the log is another one than the one that was replayed."""
    return iter(())


STEPS: dict[At, StepOf] = {
    At.MOUNT: _mount,
    At.IDLE: _idle,
    At.SLOT: following.get_slot,
    At.HEAD: following.get_head,
    At.LIST: following.list_behind,
    At.GAP: following.look_at_gap,
    At.LOAD: following.load,
    At.REPLAY: following.replay,
    At.ADOPT: following.adopt,
    At.PACK: committing.put_packs,
    At.SPELL: committing.spell,
    At.NOTE: committing.note,
    At.SIGN: committing.sign,
    At.PUT: committing.put_entry,
    At.PEEK: committing.peek,
    At.VERIFY: committing.verify,
    At.SETTLE: committing.settle,
    At.RENUMBER: committing.renumber,
    At.RENEW: committing.renew,
    At.STOPPED: _stopped,
}
