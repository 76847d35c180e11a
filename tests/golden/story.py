"""
A short story that leaves something under every key, told by whole nodes in this process, and the same each time.

The nodes are the hub's own, on a real engine; their sessions are driven without sockets. Clock, ids, tags and secrets are
counted. Whatever else is random would make the golden differ from one making to the next, and its test fail.
"""

import asyncio
import contextlib
import itertools
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import hiredis
import pytest

from hub import app
from hub.edge.parts import Parts
from hub.edge.socket import ENDPOINTS
from hub.edge.turn import Packet
from hub.fanout.node import Node
from hub.protocol.platform import decode_event
from hub.settings import QueueSettings, Settings
from hub.store import keys as names
from hub.store.connection import command
from hub.store.keys import Keys, partition
from tests.golden.state import END_MS, Json
from tests.support.processes import SECRET, StoreProcess
from tests.support.socket import eventually
from tests.support.store import ask
from tests.support.tokens import token

ORG, PLATFORM = "acme", "platform"
STEPS_MS = 1_000  # the story takes less
ISSUED_S = 1_700_000_000
WATCHED, TAKEN, OWED, OVER = "cnv_watched", "cnv_taken", "cnv_owed", "cnv_over"


class Fixed:
    """Everything that is otherwise by clock or chance; times rise by a millisecond a step."""

    def __init__(self) -> None:
        self.now_ms = END_MS - STEPS_MS
        self._counts: dict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))

    def step(self) -> None:
        """A moment later."""
        self.now_ms += 1
        assert self.now_ms < END_MS

    def new_id(self, prefix: str, p: int, chance: Callable[[int], int] | None = None) -> str:
        """Of the shape of the hub's ids, with a number."""
        return f"{prefix}_{p:02x}{next(self._counts[prefix]):020d}"

    def new_tag(self) -> bytes:
        """One for all: they only tell histories apart, and here there is one."""
        return b"7"

    def new_secret(self) -> str:
        """Numbered."""
        return f"secret-{next(self._counts['secret'])}"

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """In force in every module of the hub."""
        from hub.service import ids

        fixed = {names.new_id: self.new_id, names.new_tag: self.new_tag, ids.new_secret: self.new_secret}
        with pytest.MonkeyPatch.context() as patch:
            for name, module in sorted(sys.modules.items()):
                if name == "hub" or name.startswith("hub."):
                    for attribute, value in list(vars(module).items()):
                        if callable(value) and getattr(value, "__hash__", None) and value in fixed:
                            patch.setattr(module, attribute, fixed[value])
            patch.setattr(Node, "now_ms", lambda node: self.now_ms)
            patch.setattr("hub.store.redis_store.time_ms", lambda reply: self.now_ms)
            patch.setattr("hub.store.redis_store._wall_ms", lambda: self.now_ms)
            yield


SETTINGS = Settings(
    token_secret=SECRET.encode(),
    queues={"billing": QueueSettings("Billing", "home", "mandatory", 30_000, ("resolved", "follow-up"))},
    sweep_ms=3_600_000,  # nothing happens by itself
    lease_renew_ms=14_000,
)


class Voice:
    """One session, and the frames it was sent."""

    def __init__(self, parts: Parts, endpoint: str, fixed: Fixed) -> None:
        self.parts = parts
        self.fixed = fixed
        self.lines: list[Json] = []
        self.session = ENDPOINTS[endpoint](parts, self, "127.0.0.1")
        self._numbers = itertools.count(1)

    def write(self, packet: Packet) -> int:
        """What the hub sends."""
        self.lines += [json.loads(line) for frame in packet.frames for line in frame.decode().split("\n")]
        return 0

    def backlog(self) -> int:
        """Everything is read at once."""
        return 0

    def close(self, code: int, reason: str) -> None:
        """The hub has closed it."""

    def abort(self) -> None:
        """The hub has given it up."""

    async def ask(self, cmd: str, **arguments: Any) -> Json:
        """The `ok` to a command, when everything that it began is done."""
        self.fixed.step()
        number = next(self._numbers)
        self.session.on_text(json.dumps({"id": number, "cmd": cmd, **arguments}))
        await self.until(lambda line: line.get("id") == number, cmd)
        [answer] = [line for line in self.lines if line.get("id") == number]
        assert "ok" in answer, answer
        await self.parts.node.settle(1.0)
        return dict(answer["ok"])

    async def hears(self, event: str, conversation_id: str) -> Json:
        """Wait for an event; then for what came of it."""
        found = await self.until(
            lambda line: (line.get("event"), line.get("conversation_id")) == (event, conversation_id), event
        )
        await self.parts.node.settle(1.0)
        return found

    async def until(self, condition: Callable[[Json], bool], wanted: str) -> Json:
        """The first line for which that holds, when it is there."""

        async def there() -> bool:
            return any(map(condition, self.lines))

        await eventually(there, 10, wanted)
        return next(filter(condition, self.lines))

    async def hello(self, bearer: str, resume: Json | None = None) -> Json:
        """Say it."""
        return await self.ask("hello", token=bearer, **({"resume": resume} if resume else {}))


def bearer(sub: str, role: str, **changed: Any) -> str:
    """A token; the same each time where the story keeps something of it."""
    fixed: Json = {"iat": ISSUED_S, "exp": END_MS // 1000 + 3600, "jti": f"jti-{sub}"}
    return token(sub, role, ORG, **(fixed | changed))


@dataclass(slots=True)
class Golden:
    """What is kept beside the store's content: what people know, and what was published (channel, payload)."""

    known: Json
    published: list[list[str]]


class Story:
    """The telling."""

    def __init__(self, east: Parts, west: Parts, fixed: Fixed) -> None:
        self.east = east
        self.west = west
        self.fixed = fixed
        self.known: Json = {}
        self._numbers = itertools.count(1)

    async def told(self, conversation_id: str, *facts: tuple[str, Json]) -> None:
        """The platform's facts, one batch."""
        self.fixed.step()
        events = []
        for kind, data in facts:
            about = {"conversation_id": conversation_id, "at": self.fixed.now_ms}
            events.append(
                decode_event(
                    json.dumps({"id": f"evt_{next(self._numbers)}", "type": kind, "data": data} | about).encode()
                )
            )
        results = await self.east.ingest.take(ORG, PLATFORM, events)
        assert [one.status for one in results] == ["accepted"] * len(events), results

    async def begins(self, conversation_id: str, queue: str, *people: str) -> None:
        """It starts, with those agents (and the bot) connected."""
        start = {"channel": "web", "queue": queue, "customer": {"id": "cus_7", "name": "Dana"}, "subject": "Refund"}
        facts: list[tuple[str, Json]] = [("conversation.started", start | {"panels": {"customer": {"tier": "gold"}}})]
        for one in people:
            purpose = "bot" if one == "robo" else "agent"
            who = {"participant_id": f"p_{one}", "purpose": purpose, "user_id": one, "name": one.title()}
            facts.append(("participant.connected", who))
        await self.told(conversation_id, *facts)

    async def says(self, conversation_id: str, message_id: str, **who: str) -> None:
        """Somebody says something at the platform."""
        who = who or {"purpose": "customer"}
        await self.told(
            conversation_id, ("message.created", {"message_id": message_id, "text": f"Text “{message_id}”", **who})
        )

    async def tell(self) -> Json:
        """All of it; what people know at the end."""
        self.max = Voice(self.east, "/v1/agent", self.fixed)
        await self.max.hello(bearer("max", "agent"))
        await self.max.ask("status.set", status="on_queue")
        await self.over()
        await self.owed()
        await self.taken()
        await self.watched()
        await self.by_the_way()
        return self.known

    async def over(self) -> None:
        """One that has ended, and was watched, moved and left before."""
        await self.begins(OVER, "support", "max", "robo")
        await self.says(OVER, "m_1")
        await self.says(OVER, "m_2", participant_id="p_max")
        ana = Voice(self.east, "/v1/supervisor", self.fixed)
        await ana.hello(bearer("ana", "supervisor"))
        await ana.ask("status.set", status="available")
        await ana.ask("monitor.start", conversation_id=OVER, participant_id="p_max")
        await ana.hears("monitor.started", OVER)
        await ana.ask("monitor.stop", conversation_id=OVER)
        await ana.hears("monitor.ended", OVER)
        await self.told(
            OVER,
            ("conversation.transferred", {"queue": "sales"}),
            ("participant.disconnected", {"participant_id": "p_robo", "disconnect_type": "client"}),
            ("conversation.ended", {"reason": "solved"}),
        )
        self.fixed.step()
        ana.session.on_close(1000)
        await self.east.node.settle(1.0)

    async def owed(self) -> None:
        """One whose last owner owes a wrap-up."""
        await self.begins(OWED, "billing", "max")
        await self.says(OWED, "m_1")
        await self.told(OWED, ("conversation.ended", {"reason": "solved"}))
        await self.max.hears("wrapup.requested", OWED)

    async def taken(self) -> None:
        """One that was taken over: a notice, a wrap-up, a returned draft, and actions that wait for the platform."""
        await self.begins(TAKEN, "billing", "max", "robo")
        await self.says(TAKEN, "m_1")
        await self.max.hears("conversation.snapshot", TAKEN)
        await self.max.ask("draft.update", conversation_id=TAKEN, text="As I was about to say")
        bo = Voice(self.east, "/v1/supervisor", self.fixed)
        greeted = await bo.hello(bearer("bo", "supervisor"))
        await bo.ask("status.set", status="available")
        await bo.ask("monitor.start", conversation_id=TAKEN, participant_id="p_max")
        await bo.hears("monitor.started", TAKEN)
        prepared = await bo.ask("takeover.prepare", conversation_id=TAKEN)
        confirmed = {name: prepared[name] for name in ("takeover_id", "confirm_token")}
        ok = await bo.ask("takeover.confirm", **confirmed, req="r_confirm")
        await bo.hears("monitor.ended", TAKEN)
        await bo.hears("conversation.snapshot", TAKEN)
        await self.max.hears("takeover.notified", TAKEN)
        sent = await bo.ask(
            "message.send", conversation_id=TAKEN, text="Bo here", client_message_id="c_1", req="r_send"
        )
        self.known["bo"] = {"session": greeted["session"], "secret": greeted["secret"]}
        self.known["confirm"] = {"arguments": confirmed, "ok": ok, "sent": sent}

    async def watched(self) -> None:
        """One that is monitored right now, by somebody who changed nodes, and could be taken over with one word."""
        await self.begins(WATCHED, "support", "max")
        await self.says(WATCHED, "m_1")
        ana = Voice(self.west, "/v1/supervisor", self.fixed)
        first = await ana.hello(bearer("ana", "supervisor"))
        resume = {"session": first["session"], "secret": first["secret"], "cursors": {}}
        ana = Voice(self.east, "/v1/supervisor", self.fixed)
        second = await ana.hello(bearer("ana", "supervisor"), resume)
        assert second["resumed"] is True

        async def left() -> bool:  # the other node was told, and says that she is gone
            return b'"nodes":["%b"]' % self.east.node.node_id.encode() in await self.east.store.person(ORG, "ana")

        await eventually(left, 10, "gone from the first node")
        await ana.ask(
            "view.subscribe", view="interactions", filter={"queues": ["support", "billing"]}, sort="started_at"
        )
        started = await ana.ask("monitor.start", conversation_id=WATCHED)
        await ana.hears("monitor.started", WATCHED)
        prepared = await ana.ask("takeover.prepare", conversation_id=WATCHED)
        await self.max.ask("typing", conversation_id=WATCHED, on=True)
        await self.max.ask("draft.update", conversation_id=WATCHED, text="One moment")
        await self.told(WATCHED, ("panel.updated", {"panel": "order", "content": {"number": 17}}))
        await self.told(WATCHED, ("message.receipt", {"message_id": "m_1", "status": "read"}))
        await self.says(WATCHED, "m_2")
        cursor = (await ana.until(lambda line: line.get("data", {}).get("message_id") == "m_2", "m_2"))["cursor"]
        self.known["ana"] = {"session": second["session"], "secret": second["secret"], "cursors": {WATCHED: cursor}}
        self.known["monitor_id"] = started["monitor_id"]
        self.known["prepared"] = {name: prepared[name] for name in ("takeover_id", "confirm_token")}

    async def by_the_way(self) -> None:
        """A ticket that nobody used yet, and somebody whose token is void."""
        person = await self.east.identify(bearer("cy", "supervisor"))
        self.known["ticket"], _ = await self.east.make_ticket(person)
        await self.east.store.revoke(ORG, "sub", "zoe", self.fixed.now_ms)


@contextlib.asynccontextmanager
async def listening(store: StoreProcess) -> AsyncIterator[list[list[str]]]:
    """Everything that is published about the story's conversations, people and nodes, in order per channel."""
    heard: list[list[str]] = []
    reader, writer = await asyncio.open_unix_connection(str(store.socket))
    keys, channels = Keys(), [Keys().people_log(ORG), b"the end"]
    for conversation_id in (WATCHED, TAKEN, OWED, OVER):
        p = partition(ORG, conversation_id)
        channels += [keys.transcript(p, ORG, conversation_id), keys.board(p, ORG)]
        channels.append(keys.base(p) + f"wake:{ORG}/{PLATFORM}".encode())
    for number in (1, 2):
        node_id = f"nod_00{number:020d}"
        channels.append(keys.base(partition("node", node_id)) + b"node:" + node_id.encode())
    for channel in dict.fromkeys(channels):
        writer.write(command(b"SSUBSCRIBE", channel))

    async def read() -> None:
        parser = hiredis.Reader()
        while piece := await reader.read(1 << 16):
            parser.feed(piece)
            while (message := parser.gets()) is not False:
                if message[0] == b"smessage":
                    heard.append([message[1].decode(), message[2].decode()])

    reading = asyncio.create_task(read())
    try:
        yield heard
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        writer.close()


@contextlib.asynccontextmanager
async def told(store: StoreProcess) -> AsyncIterator[Golden]:
    """Tell the story on an empty store; until the end of the context the nodes live and their sessions are open."""
    fixed = Fixed()
    with fixed.patched():
        async with (
            listening(store) as heard,
            app.running(SETTINGS, store.url) as east,
            app.running(SETTINGS, store.url) as west,
        ):
            known = await Story(east, west, fixed).tell()
            last = ["the end", "the end"]
            await ask(store, "SPUBLISH", *last)

            async def all_heard() -> bool:
                return last in heard

            await eventually(all_heard, 10, "the last that was published")
            heard.remove(last)
            yield Golden(known, sorted(heard, key=lambda one: one[0]))
