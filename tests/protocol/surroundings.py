"""Let happen what no client does: late puts, checkpoints and cuts, sleep, copies, losses."""

from collections.abc import Iterator

from tests.protocol.bucket import put
from tests.protocol.client import steps
from tests.protocol.flow import Protocol, Turn, at_mount
from tests.protocol.search import Move
from tests.protocol.values import ALONE, ORIGIN, At, Client, World

Moves = Iterator[tuple[Move, World]]


def following(rules: Protocol, world: World) -> Moves:
    """Yield all that may happen next, with what comes of it."""
    is_end = True
    for move in _moves(rules, world):
        is_end = False
        yield move
    if is_end and (stuck := _stuck(rules, world)):
        yield Move("nobody", "goes on"), world._replace(broken=f"{stuck} cannot go on")


def _stuck(rules: Protocol, world: World) -> str:
    """Return who is not at rest, where nothing is missing that a client has to wait for."""
    bucket = world.bucket
    is_whole = bucket.has_volume and bucket.has_head and not rules.has_lost_tip
    if not is_whole or ORIGIN in bucket.slots[bucket.floor :]:
        return ""
    return ", ".join(client.machine for client in world.clients if client.at is not At.IDLE)


def _moves(rules: Protocol, world: World) -> Moves:
    """Yield what clients and others may do next.

    A step that touches nothing but a client's own disk commutes with all that others do, so while
    any client is at one, only what may happen to the first such client is tried.
    """
    for nth, client in enumerate(world.clients):
        if client.at in ALONE:
            yield from _client_moves(rules, world, nth)
            yield from _copies(world, nth)
            return
    for nth in range(len(world.clients)):
        yield from _client_moves(rules, world, nth)
        yield from _copies(world, nth)
    yield from _late(rules, world)
    yield from _checkpoints(world)
    yield from _losses(rules, world)


def _client_moves(rules: Protocol, world: World, nth: int) -> Moves:
    client = world.clients[nth]
    for turn in steps(rules, world.bucket, client, world.left):
        yield Move(client.machine, turn.what, turn.answer, turn.about), _after(world, nth, turn)


def _after(world: World, nth: int, turn: Turn) -> World:
    clients = (*world.clients[:nth], turn.client, *world.clients[nth + 1 :])
    bucket = world.bucket if turn.bucket is None else turn.bucket
    left = world.left if turn.left is None else turn.left
    return World(bucket, clients, left, turn.broken)


def _copies(world: World, nth: int) -> Moves:
    """Let a copy of the first machine's state folder come to life on another one."""
    if world.left.copies and nth == 0:
        client = world.clients[0]
        copy = at_mount(client)._replace(machine=f"{client.machine}'", writes=1)
        left = world.left._replace(copies=world.left.copies - 1)
        yield (
            Move(client.machine, "is copied", about=f"before it can {client.at}"),
            world._replace(clients=(*world.clients, copy), left=left),
        )


def _late(rules: Protocol, world: World) -> Moves:
    """Let a put arrive that nobody waits for any more."""
    bucket = world.bucket
    for hash in dict.fromkeys(bucket.late):
        arrived = list(bucket.late)
        arrived.remove(hash)
        after, is_stored, broken = put(rules.history, bucket, hash)
        move = Move("late", "a put arrives", "stored" if is_stored else "refused")
        yield move, world._replace(bucket=after._replace(late=tuple(arrived)), broken=broken)


def _checkpoints(world: World) -> Moves:
    """Write a checkpoint of all that landed; raise the floor to it; remove slots below."""
    bucket, left = world.bucket, world.left
    if not bucket.has_head:
        return
    if left.checkpoints and bucket.checkpoint < len(bucket.canon):
        after = bucket._replace(checkpoint=len(bucket.canon))
        spent = left._replace(checkpoints=left.checkpoints - 1)
        yield (
            Move("keeper", "writes a checkpoint", about=f"of {after.checkpoint}"),
            world._replace(bucket=after, left=spent),
        )
    if bucket.floor < bucket.checkpoint:
        yield from _cut(world)
    if any(slot != ORIGIN for slot in bucket.slots[: bucket.floor]):
        slots = (ORIGIN,) * bucket.floor + bucket.slots[bucket.floor :]
        after = bucket._replace(slots=slots)
        move = Move("keeper", "removes slots", about=f"up to {bucket.floor}")
        yield move, world._replace(bucket=after)


def _cut(world: World) -> Moves:
    """Raise the floor, above what a client has read only when that was not heard of for long."""
    floor = world.bucket.checkpoint
    asleep = [client.seq < floor for client in world.clients]
    spent = world.left._replace(sleeps=world.left.sleeps - any(asleep))
    if spent.sleeps < 0:
        return
    clients = tuple(
        _woken(client) if was_asleep else client
        for client, was_asleep in zip(world.clients, asleep, strict=True)
    )
    who = ", ".join(client.machine for client in clients if client.seq < floor)
    slept = f"while {who} slept" if who else "while all followed"
    bucket = world.bucket._replace(floor=floor)
    yield Move("keeper", "raises the floor", slept, f"to {floor}"), World(bucket, clients, spent)


def _woken(client: Client) -> Client:
    """Return a client whose clock says that its last look at `head` was long ago."""
    return client._replace(is_confirmed=False, is_searched=False)


def _losses(rules: Protocol, world: World) -> Moves:
    """Let somebody remove an object below `.blobfs/`."""
    if not world.left.losses:
        return
    bucket = world.bucket
    # What goes while a client is just looking, or about to put into it, cannot be told from a tip.
    busy = [client for client in world.clients if _is_busy(client)]
    is_calm = not busy
    world = world._replace(left=world.left._replace(losses=world.left.losses - 1))
    if rules.has_lost_tip and is_calm:
        tip = len(bucket.canon)
        shorter = bucket.with_slot(tip, ORIGIN)._replace(canon=bucket.canon[:-1])
        yield (
            Move("vandal", "removes the last slot", about=f"{tip}"),
            world._replace(bucket=shorter),
        )
    if rules.has_lost_tip:
        return
    for seq in range(bucket.floor + 1, len(bucket.canon)):
        if not all(_has_listed(client, seq) for client in busy):
            continue
        after = bucket.with_slot(seq, ORIGIN)
        yield Move("vandal", "removes a slot", about=f"{seq}"), world._replace(bucket=after)
    yield Move("vandal", "removes volume"), world._replace(bucket=bucket._replace(has_volume=False))
    yield Move("vandal", "removes head"), world._replace(bucket=bucket._replace(has_head=False))


def _has_listed(client: Client, seq: int) -> bool:
    """Whether a client is about to look into a slot that a listing has shown to be full."""
    return client.at is At.SLOT and client.tip < seq <= client.seq + client.listed


def _is_busy(client: Client) -> bool:
    return client.at is not At.MOUNT and (client.at is not At.IDLE or client.writes > 0)
