"""Be one of the clients of a volume: registered, with a lease, and letting others take turns.

Concurrency: one task calls this, the one that commits.
"""

from dataclasses import dataclass

import trio
from msgspec.structs import replace

from blobfs.env import Env
from blobfs.errors import NotFound
from blobfs.formats.client import ClientRecord, decode_client
from blobfs.formats.keys import CLIENTS, parse_client_key
from blobfs.model.turns import HELD_BACK_NS, asks_for_turn, holds_back_ns
from blobfs.stores.base import Store
from blobfs.types import ClientId, Seq
from blobfs.volume.registration import Registration

DAY_NS = 86_400 * 10**9

LEASE_NS = 30 * DAY_NS
"""For so long nothing is removed that a client needs, although it is not heard of."""

RENEWED_AFTER_NS = DAY_NS

OTHERS_ARE_ACTIVE_NS = 60 * 10**9
"""For so long after another client's commit this one looks whether others ask for their turn."""

LOOKS_EVERY_NS = HELD_BACK_NS // 2
"""Between two such looks: whoever asks is seen before it has waited in vain."""


@dataclass(slots=True)
class _Race:
    """What is known of the others who commit at the same time."""

    lost_in_a_row: int = 0
    other_seen_ns: int | None = None
    looked_ns: int | None = None


class Membership:
    """This client, as the others see it, and the others, as this client has to."""

    def __init__(
        self, store: Store, client: ClientId, env: Env, *, host: str, program: str
    ) -> None:
        self._store = store
        self._env = env
        self._registration = Registration(store)
        self._record = ClientRecord(id=client, host=host, program=program)
        self._race = _Race()

    async def register(self, seq: Seq) -> None:
        """Make sure that the others know of this client, which has replayed up to `seq`.

        Due before the first commit of a run, and cheap after it: the lease is renewed once a day.

        Raises:
            Copied: somebody else writes under this client's id (L6).
            Unsupported: the store does not do what If-Match asks for (L8).
            BlobfsError: the store failed us; nothing may be committed yet.
        """
        now_ns = self._env.now_ns()
        if self._record.lease_until_ns - now_ns > LEASE_NS - RENEWED_AFTER_NS:
            return
        until_ns = now_ns + LEASE_NS
        await self._announce(
            replace(self._record, seq=seq, needs_from=seq, lease_until_ns=until_ns)
        )

    async def note_lost(self) -> None:
        """Note that another client took a slot; after five in a row, ask for a turn (L7)."""
        self.note_other()
        self._race.lost_in_a_row += 1
        if asks_for_turn(self._race.lost_in_a_row):
            until_ns = self._env.now_ns() + HELD_BACK_NS
            await self._announce(replace(self._record, waiting_until_ns=until_ns))

    def note_other(self) -> None:
        """Note that an entry of another client was replayed."""
        self._race.other_seen_ns = self._env.now_ns()

    def note_landed(self) -> None:
        """Note that a commit of this client landed."""
        self._race.lost_in_a_row = 0

    async def wait_turn(self) -> None:
        """Hold back while others ask to go first, at most 10 s (L7).

        Nobody is asked, and nothing is sent, while no other client commits.
        """
        now_ns = self._env.now_ns()
        race = self._race
        if race.other_seen_ns is None or now_ns - race.other_seen_ns > OTHERS_ARE_ACTIVE_NS:
            return
        if race.looked_ns is not None and now_ns - race.looked_ns < LOOKS_EVERY_NS:
            return
        race.looked_ns = now_ns
        pause_ns = holds_back_ns(await self._recent_records(), self._record.id, now_ns)
        await trio.sleep(pause_ns / 1e9)

    async def _announce(self, record: ClientRecord) -> None:
        await self._registration.announce(record)
        self._record = record

    async def _recent_records(self) -> list[ClientRecord]:
        """Return what clients said lately, by the clock of the store: older ones ask nothing."""
        found, token = [], None
        while True:
            page = await self._store.list(CLIENTS, token=token)
            found += [each for each in page.objects if parse_client_key(each.key) is not None]
            if (token := page.next_token) is None:
                break
        newest_ns = max((each.mtime_ns for each in found), default=0)
        recent = (each.key for each in found if each.mtime_ns >= newest_ns - 2 * HELD_BACK_NS)
        records = [await self._read(key) for key in recent]
        return [record for record in records if record is not None]

    async def _read(self, key: str) -> ClientRecord | None:
        try:
            return decode_client(bytes((await self._store.get(key)).data), key=key)
        except NotFound:
            return None
