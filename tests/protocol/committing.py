"""Commit what is unsaved as a client does: note, put, find out what became of it (L2, L3, L6).

Whatever is decided is decided by the code of `blobfs.model`, as in a mount.
"""

from blobfs.model.commit_outcome import (
    Answer,
    Outcome,
    Slot,
    Step,
    after_head,
    after_put,
    after_slot,
)
from tests.protocol.bucket import put
from tests.protocol.flow import Protocol, Turn, Turns, become_another, catch_up, fail, void
from tests.protocol.following import after_batch
from tests.protocol.rules import Without
from tests.protocol.values import (
    ORIGIN,
    At,
    Bucket,
    Change,
    Client,
    Entry,
    Intent,
    Left,
    Then,
    Unsaved,
)


def put_packs(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Bring contents into the bucket before an entry names them (P3)."""
    ops = frozenset(each.op for each in client.journal)
    spelling = client._replace(at=At.SPELL)
    assert bucket.packs is not None
    if left.late and not bucket.packs >= ops:
        after = spelling if rules.without is Without.L3_PACKS else client
        yield Turn(At.PACK, "no answer", after, left=left._replace(late=left.late - 1))
    yield Turn(At.PACK, "stored", spelling, bucket._replace(packs=bucket.packs | ops))


def spell(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Resolve operations against the tree (L1)."""
    last = rules.history.replayed(client.chain).clients.get(client.id)
    entry = Entry(
        _slot_for(rules, client),
        client.chain,
        client.id,
        1 if last is None else last.counter + 1,
        _changes(rules, client),
        client.machine,
    )
    hash = rules.history.note(entry)
    draft = Intent(entry.seq, entry.counter, hash, frozenset(entry.ops))
    client = client._replace(at=At.NOTE, then=Then.COMMIT, draft=draft)
    yield Turn(At.SPELL, "", client, about=f"{', '.join(entry.ops)} for slot {entry.seq}")


def _slot_for(rules: Protocol, client: Client) -> int:
    if rules.without is Without.L3_REBASE and client.draft is not None:
        return client.draft.seq + 1
    return client.seq + 1


def _changes(rules: Protocol, client: Client) -> tuple[Change, ...]:
    draft, tree = client.draft, client.tree
    if rules.without is Without.L1_RESOLVED and draft is not None:
        return rules.history.entry(draft.entry).changes
    changes: list[Change] = []
    for unsaved in client.journal:
        if draft is None or unsaved.op in draft.ops:
            change = _resolved(unsaved, tree.shared)
            changes.append(change)
            if change.is_shared:
                tree = tree._replace(shared=change.op)
    return tuple(changes)


def _resolved(unsaved: Unsaved, shared: str) -> Change:
    """Return the row that an operation comes to, on top of what others did (C1)."""
    if unsaved.base is None:
        return Change(unsaved.op, unsaved.number, is_shared=False)
    if unsaved.base == shared:
        return Change(unsaved.op, unsaved.number, is_shared=True, replaces=shared)
    return Change(unsaved.op, unsaved.number, is_shared=False, is_conflict=True)


def note(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Note the exact bytes durably, before they leave (L2)."""
    intent = None if rules.without is Without.L2_INTENT else client.draft
    yield Turn(At.NOTE, "", client._replace(at=At.SIGN, intent=intent))


def sign(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Note durably what goes out under this client's id, so that a copy is noticed (L6).

    After the intent: a copy made in between would know the entry, and not what it covers.
    """
    draft = client.draft
    assert draft is not None
    if rules.without is not Without.L2_IDENTITY:
        client = client._replace(counter=draft.counter, hash=draft.entry)
    yield Turn(At.SIGN, "", client._replace(at=At.PUT))


def put_entry(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Put the entry into its slot, which may go wrong in every way (L3)."""
    draft = client.draft
    assert draft is not None
    about = f"{draft.seq}"
    after, is_stored, broken = put(rules.history, bucket, draft.entry)
    answer = Answer.STORED if is_stored else Answer.REFUSED
    answered = _after_put(rules, client, bucket, answer)
    yield Turn(At.PUT, answer.name.lower(), answered, after, None, broken, about)
    if left.late:
        unanswered = _after_put(rules, client, bucket, Answer.NONE)
        spent = left._replace(late=left.late - 1)
        delayed = _delayed(bucket, draft)
        yield Turn(At.PUT, "on its way, no answer", unanswered, delayed, spent, "", about)
        if is_stored:
            twice = _delayed(after, draft)
            yield Turn(At.PUT, "stored, and again later", answered, twice, spent, broken, about)


def _delayed(bucket: Bucket, draft: Intent) -> Bucket:
    return bucket._replace(late=tuple(sorted((*bucket.late, draft.entry))))


def _after_put(rules: Protocol, client: Client, bucket: Bucket, answer: Answer) -> Client:
    if rules.without is Without.L3_UNKNOWN and answer is Answer.NONE:
        return _concluded(rules, client, bucket, Outcome.TAKEN)
    if rules.without is Without.L3_REFUSED and answer is Answer.REFUSED:
        return _concluded(rules, client, bucket, Outcome.TAKEN)
    step = after_put(answer)
    return _next(rules, client._replace(is_mine=step is Step.READ_HEAD), bucket, step)


def _next(rules: Protocol, client: Client, bucket: Bucket, step: Step) -> Client:
    match step:
        case Step.PUT:
            return client._replace(at=At.PUT)
        case Step.READ_SLOT:
            return client._replace(at=At.PEEK)
    if rules.without is Without.L3_HEAD:
        outcome = Outcome.LANDED if client.is_mine else Outcome.TAKEN
        return _concluded(rules, client, bucket, outcome)
    return client._replace(at=At.VERIFY)


def peek(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Look into the slot, when the answer to the put was not success."""
    draft = client.draft
    assert draft is not None
    about = f"{draft.seq}"
    if left.failures:
        spent = left._replace(failures=left.failures - 1)
        yield Turn(At.PEEK, "no answer", fail(rules, client), left=spent, about=about)
    slot = _slot(rules, client, bucket.slot(draft.seq))
    after = client._replace(is_mine=slot is Slot.MINE)
    after = _next(rules, after, bucket, after_slot(slot))
    yield Turn(At.PEEK, slot.name.lower(), after, about=about)


def _slot(rules: Protocol, client: Client, found: bytes) -> Slot:
    draft = client.draft
    assert draft is not None
    if found == ORIGIN:
        return Slot.ABSENT
    if rules.without is Without.L2_HASH:
        entry = rules.history.entry(found)
        is_mine = (entry.client, entry.counter) == (client.id, draft.counter)
        return Slot.MINE if is_mine else Slot.OTHER
    return Slot.MINE if found == draft.entry else Slot.OTHER


def verify(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Ask `head` whether what was seen in the slot counts."""
    draft = client.draft
    assert draft is not None
    if left.failures:
        spent = left._replace(failures=left.failures - 1)
        yield Turn(At.VERIFY, "no answer", fail(rules, client), left=spent)
    if not bucket.has_head:
        return
    outcome = after_head(bucket.floor, draft.seq, is_mine=client.is_mine)  # type: ignore[arg-type]
    after = _concluded(rules, client, bucket, outcome)
    yield Turn(At.VERIFY, outcome.name.lower(), after, about=f"floor {bucket.floor}")


def _concluded(rules: Protocol, client: Client, bucket: Bucket, outcome: Outcome) -> Client:
    """Go on from what became of the entry."""
    is_commit = client.then is Then.COMMIT
    if outcome is Outcome.OVERTAKEN:
        if rules.without is Without.L3_LANDED:
            return client._replace(
                at=At.SETTLE, outcome=Outcome.LANDED, at_tip=True, then=Then.IDLE
            )
        if rules.without is not Without.L3_VOID:
            doubting = client._replace(is_confirmed=False, is_searched=False)
            return catch_up(rules, doubting, client.then)
    if outcome is Outcome.LANDED:
        if not is_commit:
            return catch_up(rules, client, Then.CLOSE)
        draft = client.draft
        assert draft is not None
        return client._replace(at=At.REPLAY, found=(draft.entry,), at_tip=True, then=Then.IDLE)
    if is_commit:
        return void(client)._replace(at_tip=rules.without is Without.L3_REBASE)
    return void(client)._replace(at_tip=True, then=Then.IDLE)


def settle(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """End the commit under way: what it covered leaves the journal, or may go again (L6)."""
    under_way, outcome = client.intent or client.draft, client.outcome
    assert under_way is not None
    assert outcome is not None
    broken = _what_is_wrong(under_way, outcome, bucket)
    journal = _journal_after(rules, client, under_way, outcome)
    settled = client._replace(intent=None, journal=journal, outcome=None)
    said = outcome.name.lower()
    if settled.is_copy:
        turn = Turn(At.SETTLE, said, become_another(rules, settled))
    else:
        turn = after_batch(rules, At.SETTLE, said, settled)
    yield turn._replace(broken=broken or turn.broken)


def _journal_after(
    rules: Protocol, client: Client, under_way: Intent, outcome: Outcome
) -> tuple[Unsaved, ...]:
    journal, ops = client.journal, under_way.ops
    if outcome is Outcome.LANDED and rules.without is not Without.L6_FORGET:
        return tuple(each for each in journal if each.op not in ops)
    if outcome is not Outcome.UNKNOWN:
        return journal
    # Lost would be worse than twice: what a copy cannot know is done again, as one of its own.
    return tuple(each._replace(op=f"{each.op}~") if each.op in ops else each for each in journal)


def _what_is_wrong(intent: Intent, outcome: Outcome, bucket: Bucket) -> str:
    """Compare what a client believes of its commit with what is so."""
    if outcome is Outcome.UNKNOWN:
        return ""
    is_there = intent.entry in bucket.canon
    if outcome is Outcome.LANDED and not is_there:
        return "what never landed was taken for saved: it is lost"
    if outcome is not Outcome.LANDED and is_there:
        return "what landed was taken for void: it will be done twice"
    return ""


def renumber(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Give new numbers to what is unsaved here, because this state folder is a copy (L6, M1)."""
    id, journal = _next_id(client), client.journal
    if rules.without is not Without.L6_NUMBERS:
        journal = tuple(each._replace(number=(id, nth)) for nth, each in enumerate(journal, 1))
    after = client._replace(at=At.RENEW, journal=journal)
    if rules.without is Without.L6_FIRST:
        after = catch_up(rules, after, client.then)
    broken = "" if rules.has_copies else "a client took itself for a copy, and there is none"
    yield Turn(At.RENUMBER, "", after, broken=broken)


def renew(rules: Protocol, bucket: Bucket, client: Client, left: Left) -> Turns:
    """Become another client; who is killed before is found to be a copy again."""
    id = _next_id(client)
    renewed = client._replace(id=id, counter=0, hash=ORIGIN, draft=None, is_copy=False)
    renewed = renewed._replace(is_confirmed=False, is_searched=False)
    if rules.without is Without.L6_FIRST:
        renewed = renewed._replace(at=At.RENUMBER)
    else:
        renewed = catch_up(rules, renewed, client.then)
    yield Turn(At.RENEW, "", renewed, about=id)


def _next_id(client: Client) -> str:
    return f"{client.machine}:{int(client.id.rpartition(':')[2]) + 1}"
