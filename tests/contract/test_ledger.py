"""
The ledger on a real store: what hubs write is whole, and whatever is done to it behind their back is found.

`SOAK_TAMPERINGS` is how many seeded ways to tamper are tried; the seed is printed.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from hub.domain import commands as c
from hub.domain.errors import Refused
from hub.domain.ledger import Finding, Verifier, ledger_name
from hub.ledger import run_ledger, verify_file, verify_store
from hub.settings import Settings
from hub.store.keys import PARTITIONS, Keys, partition
from hub.store.ledger import DiskHeads, Ledger, feed
from tests.contract.test_store import ORG, World, opened, supervisor
from tests.support.engines import Engines

TAMPERINGS = int(os.environ.get("SOAK_TAMPERINGS", "200"))
KEY = b"a-key-for-the-ledger-of-the-tests-only"


@dataclass
class Book:
    """A world whose ledger is kept under a key, and ways to look at it."""

    world: World
    settings: Settings
    ledger: Ledger

    async def seal(self) -> str | None:
        """Seal what isn't."""
        return await self.ledger.seal()

    async def findings(self) -> list[Finding]:
        """Everything that a check finds."""
        found: list[Finding] = []
        with closing(DiskHeads()) as heads:
            begin = await self.ledger.begin()
            verifier = Verifier(self.ledger.keys, heads, found.append, floors=begin.floors)
            await feed(verifier, self.ledger.told(begin))
            verifier.end()
            await self.ledger.compare_records(heads, found.append)
        return found

    async def kinds(self) -> set[str]:
        """Kinds of what a check finds."""
        return {one.kind for one in await self.findings()}

    async def verified(self, **options: Any) -> tuple[int, str]:
        """Exit status and words of `hub ledger verify`."""
        out = io.BytesIO()
        status = await verify_store(self.ledger, self.settings, out, **options)
        return status, out.getvalue().decode()

    def keep(self, *kinds: str) -> dict[bytes, bytes]:
        """All keys, or those of some kinds, as they are."""
        prefix = self.world.store.keys.prefix.encode()
        keys = [key for kind in kinds or ("",) for key in self.world.ask("KEYS", prefix + b":*}:%b*" % kind.encode())]
        return {key: self.world.ask("DUMP", key) for key in keys if b":n:" not in key}

    def put_back(self, kept: dict[bytes, bytes], *kinds: str) -> None:
        """The keys of these kinds as they were."""
        now = self.keep(*kinds)
        for key in set(now) - set(kept):
            self.world.ask("DEL", key)
        for key, dump in kept.items():
            if now.get(key) != dump:
                self.world.ask("RESTORE", key, "0", dump, "REPLACE")

    def streams(self) -> list[bytes]:
        """The ledger's streams that have lines."""
        names = [self.world.store.keys.ledger(p) for p in range(PARTITIONS)]
        return [name for name in names if self.world.ask("XLEN", name)]

    def entries(self, key: bytes) -> list[tuple[bytes, list[bytes]]]:
        """A stream's entries."""
        return [(id, list(fields)) for id, fields in self.world.ask("XRANGE", key, "-", "+")]

    def write(self, key: bytes, entries: list[tuple[bytes, list[bytes]]]) -> None:
        """A stream with these entries, as somebody with access to the store would."""
        self.world.ask("DEL", key)
        for id, fields in entries:
            self.world.ask("XADD", key, id, *fields)

    async def live(self, *, close: bool = False) -> str:
        """A conversation that is watched and taken over; its id."""
        world = self.world
        conversation = await world.begin("ann", queue="mandatory")
        await world.push(world.message(conversation), world.message(conversation, "ann"))
        command = world.watching(conversation)
        await world.do(conversation, command)
        await world.store.note_first_shown(ORG, conversation, command.monitor_id, 2)
        await world.push(world.message(conversation))
        if close:
            await world.take_over(conversation)
            await world.do(conversation, c.EndConversation(supervisor("sue")))
        else:
            await world.do(conversation, c.StopMonitor(supervisor("sue")))
        return conversation


@pytest.fixture
async def book(valkey: Engines, keys: Keys) -> AsyncIterator[Book]:
    """An empty ledger on a real engine."""
    async with opened(valkey, keys) as world:
        settings = replace(world.settings, ledger_keys=(KEY,))
        # the parts of the world were made with its settings: those of the ledger are read when they are made
        world.store._settings = settings
        world.conversations._keys = settings.ledger
        yield Book(world, settings, Ledger(world.store, settings.ledger, settings.ledger_entries_max))


def without_chain(key: bytes, line: bytes) -> dict[str, Any]:
    """A line's own members."""
    about = json.loads(line)
    return {name: about[name] for name in about if name not in ("chain", "n", "prev", "after", "key", "mac")}


# -- what is written -------------------------------------------------------------------------------------------------


async def test_what_hubs_write_is_whole(book: Book) -> None:
    """Lines of many conversations, sealed and not, with takeovers, ends and erasing: nothing is found, all is counted."""
    for number in range(6):
        conversation = await book.live(close=number % 2 == 0)
        if number == 3:
            await book.seal()
    await book.world.store.erase(ORG, conversation)
    status, said = await book.verified()
    assert (status, "nothing was found" in said) == (0, True), said
    lines = sum(len(book.entries(key)) for key in book.streams())
    assert said.startswith(f"{lines} lines, 1 seals")
    assert await book.seal() is not None
    assert await book.seal() is None, "nothing new"
    assert (await book.verified())[0] == 0


async def test_a_monitors_lines_say_what_it_saw(book: Book) -> None:
    """Who watched whom, from the first entry that was shown to the last one that there was, and why it ended."""
    conversation = await book.live()
    name = ledger_name(KEY, ORG, conversation)
    [started, ended] = [
        (json.loads(fields[1]), fields[3])
        for _, fields in book.entries(book.world.shared("ledger", conversation))
        if json.loads(fields[1])["what"].startswith("monitor.")
    ]
    assert (started[0]["what"], started[0]["user_id"], started[0]["target"]) == ("monitor.started", "sue", "p-ann")
    assert started[1] == b"4"
    assert (ended[0]["reason"], ended[0]["from_offset"], ended[1]) == ("stopped", 2, b"5")
    assert started[0]["conversation"] == name
    assert conversation not in str(started)


async def test_an_agent_does_not_feel_the_ledger_of_a_monitor(book: Book) -> None:
    """A monitor's lines go on with a chain of their own: what an agent's commit was decided on still stands."""
    world = book.world
    conversation = await world.begin("ann")
    loaded = await world.load(conversation)
    arrival = c.ConnectParticipant(
        "crm", replace(loaded.situation.existing.connected[0], participant_id="p-bob", user_id="bob")
    )
    planned = await world.plan(loaded, arrival)
    await world.do(conversation, world.watching(conversation))
    assert type(await world.store.commit(planned)).__name__ == "Committed"
    assert {json.loads(fields[1])["chain"][-1] for _, fields in book.entries(world.shared("ledger", conversation))} == {
        "c",
        "m",
    }


async def test_many_hubs_at_once_leave_one_chain(book: Book) -> None:
    """Commits and seals that race leave chains without a gap or a fork, and one row of seals."""
    world = book.world
    conversations = [await world.begin("ann") for _ in range(3)]

    async def busy(conversation: str, user: str) -> None:
        for number in range(4):
            with contextlib.suppress(Refused):  # the other one is watching
                await world.do(conversation, world.watching(conversation, user, lease_end=2**42 + number))
                await world.do(conversation, c.StopMonitor(supervisor(user)))
            await world.push(world.arrival(conversation, f"{user}{number}"))

    sealing = [book.seal() for _ in range(5)]
    await asyncio.gather(*(busy(one, user) for one in conversations for user in ("sue", "tom")), *sealing)
    await asyncio.gather(*(book.seal() for _ in range(4)))
    assert await book.findings() == []


# -- what is done to it ----------------------------------------------------------------------------------------------


def edit(book: Book, chance: random.Random) -> str:
    """One byte of a line, a word of it, or the position beside it."""
    key = chance.choice(book.streams())
    entries = book.entries(key)
    place = chance.randrange(len(entries))
    id, fields = entries[place]
    which = chance.choice((1, 1, 1, 3))
    if which == 3:
        fields[3] = b"%d" % (int(fields[3]) + chance.choice((-1, 1, 100)))
    else:
        at = chance.randrange(len(fields[1]))
        fields[1] = fields[1][:at] + bytes([fields[1][at] ^ (1 << chance.randrange(8))]) + fields[1][at + 1 :]
    book.write(key, entries)
    return f"edit {which} of {id!r}"


def cut(book: Book, chance: random.Random) -> str:
    """A run of lines taken out, anywhere."""
    key = chance.choice(book.streams())
    entries = book.entries(key)
    start = chance.randrange(len(entries))
    length = chance.randint(1, len(entries) - start)
    book.write(key, entries[:start] + entries[start + length :])
    return f"cut {length} at {start} of {len(entries)}"


def delete(book: Book, chance: random.Random) -> str:
    """One line deleted in place."""
    key = chance.choice(book.streams())
    id, _ = chance.choice(book.entries(key))
    book.world.ask("XDEL", key, id)
    return f"delete {id!r}"


def truncate(book: Book, chance: random.Random) -> str:
    """The end cut off."""
    key = chance.choice(book.streams())
    entries = book.entries(key)
    kept = chance.randrange(len(entries))
    book.write(key, entries[:kept])
    return f"truncate to {kept} of {len(entries)}"


def swap(book: Book, chance: random.Random) -> str:
    """Two lines change places."""
    key = chance.choice([one for one in book.streams() if len(book.entries(one)) > 1])
    entries = book.entries(key)
    a, b = chance.sample(range(len(entries)), 2)
    (id_a, of_a), (id_b, of_b) = entries[a], entries[b]
    entries[a], entries[b] = (id_a, of_b), (id_b, of_a)
    book.write(key, entries)
    return f"swap {a} and {b} of {len(entries)}"


def insert(book: Book, chance: random.Random) -> str:
    """A line put in: copied from elsewhere, or made up with or without a code."""
    key, source = chance.choice(book.streams()), chance.choice(book.streams())
    entries = book.entries(key)
    _, fields = chance.choice(book.entries(source))
    fields = list(fields)
    made = chance.choice(("copied", "old", "forged"))
    if made == "old":
        fields[1] = b'{"what":"monitor.ended","at":1,"org":"acme","conversation_id":"x"}'
    elif made == "forged":
        fields[1] = (
            fields[1].replace(b'"user_id":"', b'"user_id":"not-')
            if b'"user_id"' in fields[1]
            else fields[1][:-3] + b'0"}'
        )
    place = chance.randint(1, len(entries))  # a line in front of all that have codes is taken for an old hub's
    ms, _, number = entries[place - 1][0].partition(b"-")
    entries.insert(place, (b"%b-%d" % (ms, int(number) + 1_000), fields))
    if place + 1 < len(entries) and not _rising(entries[place : place + 2]):
        return swap(book, chance)
    book.write(key, entries)
    return f"insert {made} at {place} of {len(entries)}"


def _rising(entries: list[tuple[bytes, list[bytes]]]) -> bool:
    ids = [tuple(map(int, id.split(b"-"))) for id, _ in entries]
    return ids[0] < ids[1]


def move(book: Book, chance: random.Random) -> str:
    """A whole partition's lines put under another partition's name."""
    key = chance.choice(book.streams())
    empty = [name for p in range(PARTITIONS) if not book.world.ask("XLEN", name := book.world.store.keys.ledger(p))]
    book.write(chance.choice(empty), book.entries(key))
    book.world.ask("DEL", key)
    return f"move {key!r}"


def lose(book: Book, chance: random.Random) -> str:
    """All lines of a partition."""
    key = chance.choice(book.streams())
    book.world.ask("DEL", key)
    return f"lose {key!r}"


def break_seals(book: Book, chance: random.Random) -> str:
    """A seal edited, taken out (not at the end, where nobody could know), doubled, or changed for another."""
    key = book.world.store.keys.base(0) + b"seals"
    entries = book.entries(key)
    place = chance.randrange(len(entries))
    way = chance.choice(("edit", "delete", "double", "swap"))
    if way == "edit":
        fields = entries[place][1]
        at = chance.randrange(len(fields[1]))
        fields[1] = fields[1][:at] + bytes([fields[1][at] ^ 1]) + fields[1][at + 1 :]
    elif way == "delete":
        del entries[min(place, len(entries) - 2)]
    elif way == "double":
        ms, _, number = entries[place][0].partition(b"-")
        entries.insert(place + 1, (b"%b-%d" % (ms, int(number) + 1), entries[place][1]))
    else:
        other = (place + 1) % len(entries)
        (id_a, of_a), (id_b, of_b) = entries[place], entries[other]
        entries[place], entries[other] = (id_a, of_b), (id_b, of_a)
    book.write(key, entries)
    return f"seal {place}: {way}"


WAYS: tuple[Callable[[Book, random.Random], str], ...] = (
    *(edit, cut, delete, truncate, swap, insert),
    *(move, lose, break_seals),
)


async def test_whatever_is_done_to_it_is_found(book: Book) -> None:
    """Seeded edits, cuts, swaps, truncations, insertions, moves, losses and broken seals: each is found, each alone."""
    seed = int(os.environ.get("SEED", time.time_ns() % 2**32))
    print(f"seed {seed}")
    asyncio.get_running_loop().set_debug(False)  # noting who made each future is most of the time of 200 checks
    for number in range(9):
        await book.live(close=number % 2 == 0)
        if number in (2, 4, 6):
            await book.seal()
    assert await book.findings() == []
    kept = book.keep("ledger", "seals")
    missed = []
    for number in range(TAMPERINGS):
        way = WAYS[number % len(WAYS)]
        done = way(book, random.Random(f"{seed} {number}"))
        if book.keep("ledger", "seals") == kept:  # two equal things changed places
            continue
        if not await book.findings():
            missed.append(f"{number}: {done}")
        book.put_back(kept, "ledger", "seals")
    assert missed == [], f"seed {seed}"
    assert await book.findings() == []


async def test_an_old_state_put_back_is_found(book: Book) -> None:
    """Of a conversation alone, of a partition's ledger alone, of both: what was sealed or recorded since tells."""
    first = await book.live()
    await book.seal()
    old = book.keep()
    world = book.world
    await world.push(world.arrival(first, "bob"))
    record, ledger = world.key("c", first), world.shared("ledger", first)
    now = book.keep()
    world.ask("RESTORE", record, "0", old[record], "REPLACE")
    assert await book.kinds() == {"record_behind"}
    book.put_back(now)
    world.ask("RESTORE", ledger, "0", old[ledger], "REPLACE")
    assert await book.kinds() == {"record_ahead"}
    book.put_back(now)
    await book.seal()
    sealed = book.keep()
    for key in (record, ledger):
        world.ask("RESTORE", key, "0", old[key], "REPLACE")
    assert await book.kinds() == {"cut_off"}
    book.put_back(sealed)
    assert await book.findings() == []


async def test_a_whole_store_put_back_is_found_by_a_seal_that_was_noted(book: Book) -> None:
    """Nothing in the store itself can tell; who noted the last seal (the hub's log does) can."""
    await book.live()
    await book.seal()
    old = book.keep()
    await book.live()
    noted = await book.seal()
    assert (await book.verified(noted=noted))[0] == 0
    book.put_back(old)
    assert (await book.verified())[0] == 0
    status, said = await book.verified(noted=noted)
    assert (status, "seal_gone (1)" in said) == (1, True), said


async def test_what_a_failover_forgot_is_named_so(book: Book) -> None:
    """Sealed lines gone with the records that named them, and hubs that went on: `forgotten`, and nothing else."""
    conversation = await book.live()
    await book.seal()
    world = book.world
    old = book.keep()
    await world.push(world.arrival(conversation, "bob"))
    await book.seal()
    book.put_back({**old, **book.keep("seal")})  # another primary, which had lost less
    await world.push(world.arrival(conversation, "cid"))
    await book.seal()
    await world.push(world.arrival(conversation, "eve"))
    await book.seal()
    status, said = await book.verified()
    assert status == 1
    assert said.splitlines()[-1].startswith("forgotten (1): sealed lines are gone, and the next seal says so")
    assert await book.kinds() == {"forgotten"}


async def test_lines_that_make_room_are_not_missed(book: Book) -> None:
    """A full ledger loses its oldest lines; one that lost them although there was room was cut."""
    for _ in range(3):
        await book.live()
        await book.seal()
    key = max(book.streams(), key=lambda one: len(book.entries(one)))
    entries = book.entries(key)
    kept = book.keep()
    book.write(key, entries[3:])
    assert await book.kinds() & {"span_changed", "missing"}
    book.put_back(kept)
    conversation = await book.live()
    small = Ledger(book.world.store, book.settings.ledger, 4)
    key = book.world.shared("ledger", conversation)
    full = Book(book.world, book.settings, small)
    book.write(key, book.entries(key)[-4:])
    others = [found for found in await full.findings() if f"partition {partition(ORG, conversation)}" in found.where]
    assert others == []


async def test_names_go_with_the_last_line(book: Book) -> None:
    """A name is known as long as a line has it: not once a full ledger has lost them all; running ones' names stay."""
    world = book.world
    conversation = await book.live(close=True)
    p, name = partition(ORG, conversation), ledger_name(KEY, ORG, conversation)
    await world.do(conversation, c.SubmitWrapup(supervisor("sue"), "sold", None))
    await world.store.erase(ORG, conversation)
    small = Ledger(world.store, book.settings.ledger, 1)
    await small.tidy(p)
    assert await small.names(p, [name]) == {name: (ORG, conversation)}
    world.ask("XADD", world.shared("ledger", conversation), "*", "e", "{}", "t", "0")
    book.write(world.shared("ledger", conversation), book.entries(world.shared("ledger", conversation))[-1:])
    await book.ledger.tidy(p)
    assert await small.names(p, [name]) != {}, "there is room"
    await small.tidy(p)
    assert await small.names(p, [name]) == {}


async def test_lines_of_an_older_hub_are_told_apart(book: Book) -> None:
    """Lines without codes in front of the first one that has one are counted; behind it they are found."""
    conversation = await book.world.begin("ann")
    key = book.world.shared("ledger", conversation)
    old = [(b"%d-0" % at, [b"e", b'{"what":"x","at":%d,"org":"acme","conversation_id":"c"}' % at]) for at in (5, 6)]
    book.write(key, old + book.entries(key))
    await book.seal()
    status, said = await book.verified()
    assert (status, "2 lines without a code" in said) == (0, True), said
    book.world.ask("XADD", key, "*", *old[0][1])
    assert await book.kinds() == {"unchained"}
    status, said = await book.verified(upgraded=int(time.time() * 1000) + 10_000)
    assert (status, "3 lines without a code" in said) == (0, True), said


async def test_the_check_says_the_first_of_each_kind(book: Book) -> None:
    """Exit status 1, one sentence for each kind with how many there were, and the first by its place."""
    await book.live()
    key = book.streams()[0]
    entries = book.entries(key)
    for _, fields in entries[:3]:
        fields[1] = fields[1].replace(b'"at":', b'"at":9', 1)
    book.write(key, entries)
    status, said = await book.verified()
    assert status == 1
    [sentence] = [line for line in said.splitlines() if line.startswith("changed")]
    assert sentence.startswith("changed (3): a line's code doesn't fit its bytes")
    assert entries[0][0].decode() in sentence


# -- programs --------------------------------------------------------------------------------------------------------


def asked(program: str, **options: Any) -> argparse.Namespace:
    """Arguments of a program."""
    names = ("since", "until", "org", "conversation", "user", "file", "seal", "upgraded")
    return argparse.Namespace(ledger=program, **(dict.fromkeys(names) | options))


async def ran(book: Book, program: str, **options: Any) -> tuple[int, bytes]:
    """Status and output of a program on the world's engine."""
    out = io.BytesIO()
    settings = replace(book.settings, redis_url=book.world.engines.url)
    status = await run_ledger(asked(program, **options), settings, out)
    return status, out.getvalue()


async def test_an_export_can_be_checked_without_the_store(book: Book, tmp_path: Path) -> None:
    """What is exported is found whole by the same check; any line changed, cut, doubled or swapped in the file is found."""
    first = await book.live(close=True)
    await book.seal()
    await book.live()
    status, exported = await ran(book, "export")
    assert status == 0
    path = tmp_path / "ledger.ndjson"

    def checked(lines: list[bytes]) -> int:
        path.write_bytes(b"".join(lines))
        out = io.BytesIO()
        status = verify_file(path, book.settings.ledger, out)
        print(out.getvalue().decode())
        return status

    lines = exported.splitlines(keepends=True)
    assert checked(lines) == 0
    assert first.encode() in exported
    assert checked(lines[:-1]) == 1, "the end"
    for place in range(1, len(lines)):
        assert checked(lines[:place] + lines[place + 1 :]) == 1, lines[place]
        assert checked([*lines[:place], lines[place].replace(b"1", b"2", 1), *lines[place + 1 :]]) == 1, lines[place]
    assert checked([*lines[:2], lines[3], lines[2], *lines[4:]]) == 1
    assert checked([*lines, lines[1]]) == 1


async def test_an_export_has_what_was_asked_for(book: Book, tmp_path: Path) -> None:
    """By conversation, by user and by time; each can be checked as far as it goes."""
    one, other = await book.live(), await book.live()
    await book.seal()
    path = tmp_path / "ledger.ndjson"

    async def chosen(**options: Any) -> list[dict[str, Any]]:
        _, exported = await ran(book, "export", **options)
        path.write_bytes(exported)
        assert verify_file(path, book.settings.ledger, io.BytesIO()) == 0, exported
        return [found for line in exported.splitlines() if "line" in (found := json.loads(line))]

    everything = await chosen()
    assert {line["conversation_id"] for line in everything} == {one, other}
    mine = await chosen(conversation=one, org=ORG)
    assert {line["conversation_id"] for line in mine} == {one}
    assert len(mine) < len(everything)
    by_sue = await chosen(user="sue")
    assert {line["line"]["what"] for line in by_sue} == {"monitor.started", "monitor.ended"}
    assert await chosen(user="nobody") == []
    later = int(everything[-1]["id"].partition("-")[0]) + 1_000
    assert await chosen(since=later) == []
    assert await chosen(until=1_000) == []
    assert len(await chosen(since=1_000, until=later)) == len(everything)


async def test_show_tells_a_conversations_story(book: Book) -> None:
    """One line each: when, what, who, and which entries a monitor saw; 1 where there is none."""
    conversation = await book.live()
    status, said = await ran(book, "show", conversation=conversation, org=ORG)
    lines = said.decode().splitlines()
    assert status == 0
    assert [line.split()[1] for line in lines] == [
        *("conversation.started", "participant.connected", "monitor.started", "monitor.ended"),
    ]
    assert "user_id=sue" in lines[2]
    assert "reason=stopped" in lines[3]
    assert "saw=2..5" in lines[3]
    assert (await ran(book, "show", conversation=conversation))[1] == said
    assert (await ran(book, "show", conversation="nowhere"))[0] == 1


async def test_erasing_forgets_whose_lines_they_are(book: Book) -> None:
    """After a customer's erasing nobody can tell from the ledger which conversation it was; who has its id still can."""
    conversation = await book.live(close=True)
    await book.world.do(conversation, c.SubmitWrapup(supervisor("sue"), "sold", None))
    await book.world.store.erase(ORG, conversation, why="customer", forget=True)
    await book.seal()
    assert await book.findings() == []
    _, exported = await ran(book, "export")
    assert conversation.encode() not in exported
    assert not [
        key for key, dump in book.keep().items() if conversation.encode() in key + dump and b"board:" not in key
    ]
    _, said = await ran(book, "show", conversation=conversation)
    assert said.decode().splitlines()[-1].split()[1] == "conversation.erased"
