"""Say where a client goes next, when one of its steps is done."""

from collections.abc import Iterator
from typing import NamedTuple

from blobfs.model.commit_outcome import Authored, Outcome, is_recorded
from tests.protocol.history import History
from tests.protocol.rules import Without
from tests.protocol.values import ORIGIN, At, Bucket, Client, Left, Then


class Turn(NamedTuple):
    """What came of one step of a client. None: as it was."""

    what: str
    answer: str
    client: Client
    bucket: Bucket | None = None
    left: Left | None = None
    broken: str = ""
    about: str = ""


Turns = Iterator[Turn]


class Protocol(NamedTuple):
    """The rules that clients keep: all but one."""

    history: History
    without: Without
    batch: int
    """How many slots are read before `head` is asked about them."""
    with_packs: bool = False
    has_copies: bool = False
    has_lost_tip: bool = False
    """Whether the last slot of the log may be removed: then nobody knows of all that landed."""


def at_mount(client: Client) -> Client:
    """Return a client that is killed and started again: what is on its disk stays."""
    return Client(
        machine=client.machine,
        id=client.id,
        counter=client.counter,
        hash=client.hash,
        journal=client.journal,
        intent=client.intent,
        seq=client.seq,
        chain=client.chain,
        tree=client.tree,
        writes=client.writes,
        looks=client.looks,
        is_sharing=client.is_sharing,
    )


def rest(rules: Protocol, client: Client) -> Client:
    """Go on with what is to be saved, if anything is."""
    client = client._replace(
        at=At.IDLE,
        then=Then.IDLE,
        draft=None,
        listed=0,
        found=(),
        at_tip=False,
        first=ORIGIN,
        outcome=None,
        is_mine=False,
        since=0,
    )
    if client.intent is not None:
        return catch_up(rules, client, Then.FINISH)
    if not client.journal:
        return client
    return client._replace(at=At.PACK if rules.with_packs else At.SPELL)


def fail(rules: Protocol, client: Client) -> Client:
    """Give up what was under way, because the bucket did not answer."""
    return at_mount(client) if client.then is Then.MOUNT else rest(rules, client)


def catch_up(rules: Protocol, client: Client, then: Then) -> Client:
    """Begin to read what follows; what a killed run had replayed is ended before (L6)."""
    client = client._replace(
        at=_first_look(rules, client),
        then=then,
        listed=0,
        found=(),
        at_tip=False,
        outcome=None,
        is_mine=False,
        since=0,
    )
    if rules.without is not Without.L6_ORDER and has_recorded(rules, client.chain, client):
        return client._replace(at=At.SETTLE, outcome=Outcome.LANDED)
    if client.first != ORIGIN and rules.history.entry(client.first).seq > client.seq:
        return client._replace(at=At.LOAD, found=(client.first,))
    return client


def become_another(rules: Protocol, client: Client) -> Client:
    """Take a new id, since a copy of this folder is at work; in use that waits for a mount."""
    if client.then is not Then.MOUNT:
        return at_mount(client)
    return client._replace(at=At.RENEW if rules.without is Without.L6_FIRST else At.RENUMBER)


def _first_look(rules: Protocol, client: Client) -> At:
    """Return how a client begins to look for news: now and then by a listing (L5)."""
    if rules.without is Without.L4_AFTER:
        return At.HEAD
    is_sure = client.is_searched or rules.without is Without.L5_HOLE
    return At.SLOT if is_sure else At.LIST


def has_recorded(rules: Protocol, chain: bytes, client: Client) -> bool:
    """Return whether the log up to `chain` holds the commit under way."""
    if client.intent is None:
        return False
    last = rules.history.replayed(chain).clients.get(client.id)
    mine = Authored(client.id, client.intent.counter, client.intent.entry)  # type: ignore[arg-type]
    return is_recorded(last, mine)


def go_on(rules: Protocol, what: str, answer: str, client: Client) -> Turn:
    """Do what the client caught up with the log for."""
    broken = ""
    if client.seq < client.since and not rules.has_lost_tip:
        broken = f"slot {client.seq} was taken for the tip, when {client.since} had landed before"
    return Turn(what, answer, _caught_up(rules, client._replace(since=0)), broken=broken)


def _caught_up(rules: Protocol, client: Client) -> Client:
    match client.then:
        case Then.FINISH if has_recorded(rules, client.chain, client):
            return client._replace(at=At.SETTLE, outcome=Outcome.LANDED, at_tip=True)
        case Then.FINISH:
            return _finish(rules, client)
        case Then.COMMIT | Then.CLOSE if client.intent is not None:
            # Its slot is below the floor, and neither log nor checkpoint has a trace of it.
            return _never_landed(client)
        case Then.COMMIT if _has_more(client):
            return client._replace(at=At.SPELL, found=(), at_tip=False)
        case _:
            return rest(rules, client)


def _never_landed(client: Client) -> Client:
    """End a commit that was overtaken; what is spelled anew goes on top of yet another look."""
    if client.then is Then.COMMIT:
        return void(client)._replace(at_tip=False)
    return void(client)._replace(then=Then.IDLE, at_tip=True)


def _has_more(client: Client) -> bool:
    """Return whether operations of the draft are still to be committed."""
    draft = client.draft
    return any(draft is None or each.op in draft.ops for each in client.journal)


def _finish(rules: Protocol, client: Client) -> Client:
    """Find out what became of a commit of an earlier run, or of an earlier round."""
    intent = client.intent
    if intent is None:
        return rest(rules, client)
    if client.seq >= intent.seq:
        return void(client)._replace(then=Then.IDLE, at_tip=True)
    if rules.without is Without.L2_BYTES:
        return client._replace(at=At.SPELL, found=(), at_tip=False)
    return client._replace(at=At.SIGN, then=Then.CLOSE, draft=intent, found=(), at_tip=False)


def void(client: Client) -> Client:
    """Let the operations of the commit under way be committed by another entry."""
    return client._replace(at=At.SETTLE, outcome=Outcome.TAKEN)
