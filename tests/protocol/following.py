"""Follow the log as a client does: read slots, believe them or not, replay (L4, L5).

Whatever is decided is decided by the code of `blobfs.model`, as in a mount.
"""

from blobfs.errors import Damaged
from blobfs.model.chain import Landed, Position, follow
from blobfs.model.commit_outcome import Author, Authored, Outcome, after_replay, author_of
from tests.protocol.flow import (
    Protocol,
    Turn,
    Turns,
    become_another,
    catch_up,
    fail,
    go_on,
    has_recorded,
)
from tests.protocol.history import apply
from tests.protocol.rules import Without
from tests.protocol.values import ORIGIN, At, Bucket, Client, Intent, Left, Tree


def list_behind(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """See what lies behind the last replayed entry, and that there is no hole before it (L5)."""
    if left.failures:
        spent = left._replace(failures=left.failures - 1)
        yield Turn(At.LIST, "no answer", fail(rules, client), left=spent)
    behind = [seq for seq, each in enumerate(bucket.slots, 1) if each != ORIGIN]
    listed = [seq for seq in behind if seq > client.seq][: rules.batch]
    client = client._replace(since=len(bucket.canon), listed=len(listed))
    if listed != list(range(client.seq + 1, client.seq + 1 + len(listed))):
        yield Turn(At.LIST, "a gap", client._replace(at=At.GAP))
        return
    if listed:
        yield Turn(At.LIST, "entries", client._replace(at=At.SLOT))
    else:
        searched = client._replace(is_searched=True)
        yield _after_slots(rules, "nothing", searched)._replace(what=At.LIST)


def look_at_gap(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """See whether a log with a gap was cut, or has lost an entry."""
    if left.failures:
        spent = left._replace(failures=left.failures - 1)
        yield Turn(At.GAP, "no answer", fail(rules, client), left=spent)
    if not bucket.has_head and rules.without is not Without.L5_HEAD:
        return
    floor = bucket.floor if bucket.has_head else 0
    if Position(client.seq, client.chain).is_cut_off(floor):  # type: ignore[arg-type]
        yield Turn(At.GAP, "cut above", _overtaken(bucket, client))
    else:
        yield Turn(At.GAP, "a hole", fail(rules, client))


def get_slot(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Look into the slot behind the last one that was found."""
    if not client.found and not client.listed:
        client = client._replace(since=len(bucket.canon))
    about = f"{client.tip + 1}"
    if left.failures:
        spent = left._replace(failures=left.failures - 1)
        yield _unread(rules, client)._replace(left=spent, about=about)
    found = bucket.slot(client.tip + 1)
    if found == ORIGIN and client.listed and rules.without is not Without.L5_LISTED:
        gone = client._replace(at=At.GAP, found=())
        yield Turn(At.SLOT, "absent, though listed", gone, about=about)
        return
    if found == ORIGIN:
        yield _after_slots(rules, "absent", client)._replace(about=about)
        return
    client = client._replace(found=(*client.found, found))
    if len(client.found) == (client.listed or rules.batch):
        if 0 < client.listed < rules.batch:
            client = client._replace(is_searched=True)
        yield _after_slots(rules, "an entry", client)._replace(about=about)
    else:
        yield Turn(At.SLOT, "an entry", client, about=about)


def _unread(rules: Protocol, client: Client) -> Turn:
    if rules.without is Without.L5_FAILURE:
        return _after_slots(rules, "no answer", client)
    return Turn(At.SLOT, "no answer", fail(rules, client))


def _after_slots(rules: Protocol, answer: str, client: Client) -> Turn:
    """Ask `head` about what was found; about nothing, only if that was not done lately."""
    client = client._replace(at_tip=len(client.found) < rules.batch)
    if _asks_head(rules, client):
        return Turn(At.SLOT, answer, client._replace(at=At.HEAD))
    return _take_in(rules, At.SLOT, answer, client)


def _asks_head(rules: Protocol, client: Client) -> bool:
    if rules.without is Without.L4_AFTER:
        return False  # it was asked before
    if client.found:
        return rules.without is not Without.L4_HEAD
    return not client.is_confirmed and rules.without is not Without.L4_TIP


def get_head(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """See whether the log still reaches down to what was found."""
    if left.failures:
        spent = left._replace(failures=left.failures - 1)
        yield Turn(At.HEAD, "no answer", fail(rules, client), left=spent)
    if not bucket.has_head and rules.without is not Without.L5_HEAD:
        return
    floor = bucket.floor if bucket.has_head else 0
    position = Position(client.seq, client.chain)  # type: ignore[arg-type]
    if position.is_cut_off(floor):  # type: ignore[arg-type]
        turn = Turn(At.HEAD, "cut above", _overtaken(bucket, client))
    elif rules.without is Without.L4_AFTER:
        turn = Turn(At.HEAD, "reaches down", client._replace(at=At.SLOT))
    else:
        confirmed = client._replace(is_confirmed=True)
        turn = _take_in(rules, At.HEAD, "reaches down", confirmed)
    yield turn._replace(about=f"floor {floor}")


def _overtaken(bucket: Bucket, client: Client) -> Client:
    """Begin from the checkpoint that `head` names."""
    found = (bucket.canon[bucket.checkpoint - 1],)
    return client._replace(at=At.LOAD, found=found, at_tip=False, since=0)


def _take_in(rules: Protocol, what: str, answer: str, client: Client) -> Turn:
    """Replay what was found, if it is what it should be."""
    if not client.found:
        return go_on(rules, what, answer, client)
    if rules.without is not Without.L4_CHAIN and not _follows(rules, client):
        return Turn(what, answer + ", a fork", client._replace(at=At.STOPPED))
    authors = [_author(rules, client, hash) for hash in client.found]
    if Author.COPY in authors:
        return Turn(what, answer + ", a copy", _up_to_a_copy(rules, client, authors))
    return Turn(what, answer, client._replace(at=At.REPLAY))


def _up_to_a_copy(rules: Protocol, client: Client, authors: list[Author]) -> Client:
    """Replay what comes before the entry of a copy, end what is under way, become another."""
    upto = authors.index(Author.COPY)
    client = client._replace(found=client.found[: upto + 1], is_copy=True)
    if upto:
        return client._replace(at=At.REPLAY)
    return _is_copied(rules, client, _own_outcome(rules, client, client.intent))


def _is_copied(rules: Protocol, client: Client, outcome: Outcome | None) -> Client:
    client = client._replace(found=(), at_tip=False, is_copy=True, outcome=outcome)
    if client.intent is not None:
        return client._replace(at=At.SETTLE)
    return become_another(rules, client)


def _follows(rules: Protocol, client: Client) -> bool:
    position = Position(client.seq, client.chain)  # type: ignore[arg-type]
    try:
        for hash in client.found:
            position = follow(position, Landed(rules.history.entry(hash), hash))  # type: ignore[arg-type]
    except Damaged:
        return False
    return True


def _author(rules: Protocol, client: Client, hash: bytes) -> Author:
    entry = rules.history.entry(hash)
    author = author_of(Authored(entry.client, entry.counter, hash), client.last)  # type: ignore[arg-type]
    return Author.OTHER if rules.without is Without.L6_COPY else author


def _own_outcome(rules: Protocol, client: Client, under_way: Intent | None) -> Outcome | None:
    """Return what became of the commit under way, when all that was found counts."""
    if under_way is None:
        return None
    is_mine = any(_is_mine(rules, client, under_way, hash) for hash in client.found)
    return after_replay(under_way.seq, client.tip, is_mine=is_mine)  # type: ignore[arg-type]


def _is_mine(rules: Protocol, client: Client, under_way: Intent, hash: bytes) -> bool:
    if rules.without is Without.L2_HASH:
        entry = rules.history.entry(hash)
        return (entry.client, entry.counter) == (client.id, under_way.counter)
    return hash == under_way.entry


def replay(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Bring entries into the tree, in one transaction (L1)."""
    under_way = client.draft if rules.without is Without.L2_INTENT else client.intent
    outcome = _own_outcome(rules, client, under_way)
    tree, known = client.tree, client.found[:-1] if client.is_copy else client.found
    for hash in known:
        tree = _applied(rules, client, tree, hash)
    after = client._replace(seq=client.seq + len(known), chain=known[-1], tree=tree, found=())
    if client.is_copy:
        turn = Turn(At.REPLAY, "", _is_copied(rules, after, outcome))
    elif outcome in (Outcome.LANDED, Outcome.TAKEN):
        turn = Turn(At.REPLAY, "", after._replace(at=At.SETTLE, outcome=outcome))
    else:
        turn = after_batch(rules, At.REPLAY, "", after)
    broken = _what_is_wrong(rules, bucket, after) or turn.broken
    yield turn._replace(broken=broken, about=f"up to {after.seq}")


def _applied(rules: Protocol, client: Client, tree: Tree, hash: bytes) -> Tree:
    entry = rules.history.entry(hash)
    is_foreign = entry.client != client.id
    if rules.without is Without.L1_BLIND and is_foreign and client.journal:
        return apply(tree, tuple(each for each in entry.changes if not each.is_shared))
    return apply(tree, entry.changes)


def after_batch(rules: Protocol, what: str, answer: str, client: Client) -> Turn:
    """Go on when the tip was reached, else read what follows."""
    if client.at_tip:
        return go_on(rules, what, answer, client)
    return Turn(what, answer, catch_up(rules, client, client.then))


def _what_is_wrong(rules: Protocol, bucket: Bucket, client: Client) -> str:
    """Compare a tree with those of all others at the same seq."""
    if client.tree != rules.history.replayed(client.chain).tree:
        return f"the tree at {client.seq} is none that the log ever described"
    if rules.has_lost_tip or bucket.canon[client.seq - 1] == client.chain:
        return ""
    return f"what was replayed as entry {client.seq} is not the entry that others have (a fork)"


def load(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Get the checkpoint that `head` named; it may have made room for a newer one."""
    if left.failures:
        spent = left._replace(failures=left.failures - 1)
        yield Turn(At.LOAD, "no answer", fail(rules, client), left=spent)
    (wanted,) = client.found
    if bucket.canon[bucket.checkpoint - 1] != wanted:
        yield Turn(At.LOAD, "gone", catch_up(rules, client, client.then))
    elif _is_contradicted(rules, bucket, wanted):
        yield Turn(At.LOAD, "of another log", client._replace(at=At.STOPPED))
    elif _shows_a_copy(rules, client, wanted):
        outcome = _outcome_beside_a_copy(rules, client, wanted)
        yield Turn(At.LOAD, "a copy", _is_copied(rules, client, outcome))
    else:
        yield Turn(At.LOAD, "there", client._replace(at=At.ADOPT))


def _is_contradicted(rules: Protocol, bucket: Bucket, hash: bytes) -> bool:
    """Return whether a checkpoint was made after another entry than lies in the log."""
    seq = rules.history.entry(hash).seq
    if seq <= bucket.floor and rules.without is not Without.L4_STALE:
        return False  # what lies there now may have come too late to count
    return bucket.slot(seq) not in (ORIGIN, hash)


def _shows_a_copy(rules: Protocol, client: Client, hash: bytes) -> bool:
    last = rules.history.replayed(hash).clients.get(client.id)
    if has_recorded(rules, hash, client):
        return False
    is_copy = last is not None and author_of(last, client.last) is Author.COPY
    return is_copy and rules.without is not Without.L6_COPY


def _outcome_beside_a_copy(rules: Protocol, client: Client, hash: bytes) -> Outcome | None:
    """Return what became of the commit under way, of which a checkpoint may have lost the trace.

    It knows the last commit of an id, and no others: mine may have landed before that of a copy.
    """
    if client.intent is None:
        return None
    last = rules.history.replayed(hash).clients[client.id]
    return Outcome.UNKNOWN if last.counter > client.intent.counter else Outcome.TAKEN


def adopt(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Let the tree be that of the checkpoint; the journal stays."""
    (hash,) = client.found
    adopted = client._replace(
        seq=rules.history.entry(hash).seq,
        chain=hash,
        tree=rules.history.replayed(hash).tree,
    )
    after = catch_up(rules, adopted, client.then)
    yield Turn(At.ADOPT, "", after, about=f"up to {adopted.seq}")
