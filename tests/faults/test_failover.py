"""
Sentinel makes another primary: because the first one died, or because it was cut off with a hub on its side.

Nothing that was acknowledged as durable is lost, what was not is said, and never do two monitors get data at once, by the
times of the frames themselves.
"""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hub.store.embedded import find_engine
from tests.support.centre import Centre, Story
from tests.support.engines import Engine, followed, wait_until
from tests.support.fixtures import AWAKE, PATIENT, running
from tests.support.network import Machine, machines
from tests.support.processes import HubProcess, free_port
from tests.support.shown import Shown
from tests.support.silence import let_in
from tests.support.socket import HubError, Json, Socket, eventually
from tests.support.talk import Talk, Writer, screens_of

FAILOVERS = int(os.environ.get("SOAK_FAILOVERS", "1"))
CUTS = int(os.environ.get("SOAK_CUTS", "1"))
SEED = int(os.environ.get("FAILOVER_SEED", "3307"))
LONG = 0 if any(name.startswith("SOAK_") for name in os.environ) else 120
DOWN_AFTER_MS = 1_000
CONVERSATIONS = 6
AT_ONCE = ("--repl-diskless-sync-delay", "0")


class Service:
    """A primary, two replicas and three Sentinels: each place (None: the loopback) has an engine and a Sentinel."""

    def __init__(self, places: Sequence[Machine | None], *options: str) -> None:
        binary, options = str(find_engine()), (*AT_ONCE, *options)
        self.engines = [
            Engine(binary, port=free_port(), host=_host(one), within=_within(one), options=options) for one in places
        ]
        primary = self.engines[0]
        self.sentinels = [
            Engine.sentinel(
                binary,
                "main",
                primary,
                host=_host(one),
                within=_within(one),
                quorum=2,
                down_after_ms=DOWN_AFTER_MS,
            )
            for one in places
        ]
        named = ",".join(f"{one.host}:{one.port}" for one in self.sentinels)
        self.url = f"redis+sentinel://{named}/main"

    def start(self) -> "Service":
        """Start everything; the replicas follow, and the Sentinels know of one another and of them."""
        primary, *replicas = [engine.start() for engine in self.engines]
        for replica in replicas:
            replica.ask("REPLICAOF", primary.host, str(primary.port))
        wait_until(lambda: followed(primary, len(replicas)), "replicas that follow")
        for sentinel in self.sentinels:
            sentinel.start()
        wait_until(lambda: all(map(self._knows_all, self.sentinels)), "Sentinels that know everybody", 20)
        return self

    def primary_by(self, sentinel: Engine) -> Engine:
        """Whom that Sentinel calls the primary."""
        host, port = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
        return next(one for one in self.engines if (one.host, one.port) == (host.decode(), int(port)))

    def remove(self) -> None:
        """End everything."""
        for engine in (*self.sentinels, *self.engines):
            engine.remove()

    def _knows_all(self, sentinel: Engine) -> bool:
        return (
            len(sentinel.ask("SENTINEL", "SENTINELS", "main")) == 2
            and len(sentinel.ask("SENTINEL", "REPLICAS", "main")) == len(self.engines) - 1
        )


def _host(place: Machine | None) -> str:
    return place.address if place is not None else "127.0.0.1"


def _within(place: Machine | None) -> Sequence[str]:
    return place.within if place is not None else ()


@contextlib.contextmanager
def service(places: Sequence[Machine | None], *options: str) -> Iterator[Service]:
    """A running one."""
    made = Service(places, *options)
    try:
        yield made.start()
    finally:
        made.remove()


def hubs_on(url: str, folder: Path, config: str, places: Sequence[Machine | None]) -> list[HubProcess]:
    """A hub on each place."""
    return [
        HubProcess(
            folder / f"hub{number}",
            redis_url=url,
            config=config,
            host=place.front if place is not None else "127.0.0.1",
            within=_within(place),
        )
        for number, place in enumerate(places)
    ]


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("turn", range(FAILOVERS))
async def test_a_killed_primary(tmp_path: Path, turn: int) -> None:
    """The primary dies under load: nothing acknowledged is lost or doubled, no monitor ends, screens go on or say so."""
    chance = random.Random(f"{SEED}/{turn}")
    with service([None, None, None]) as store:
        async with running(*hubs_on(store.url, tmp_path, PATIENT, [None, None])) as centre:
            stories, screens = await screens_of(centre, centre.hubs[0].url, centre.hubs[1].url, CONVERSATIONS)

            async def some_node() -> int:
                return chance.randrange(2)

            talk = Talk(centre, stories, some_node)
            await talk.goes_on(chance.randint(2, 6))
            old = store.primary_by(store.sentinels[0])
            old.kill()
            began = time.monotonic()
            await talk.goes_on(2)
            print(f"messages were taken again {time.monotonic() - began:.1f} s after the primary was killed")
            said = await talk.stop()
            for screen in screens:
                await screen.has(said[-1])
                assert [one for one in screen.messages if one in said] == said, f"seed {SEED}/{turn}"
                assert set(screen.breaks) <= {"stream.reset"}, f"seed {SEED}/{turn}: {screen.breaks}"
            for story in stories:
                assert await _messages(centre, story) == said, f"seed {SEED}/{turn}"
                assert [monitor["to"] for monitor in (await centre.detail(story.id))["monitors"]] == [None]
            await asyncio.gather(*(screen.close() for screen in screens))


def conversation_frames(line: Socket, story: Story) -> list[tuple[float, Json]]:
    """What a socket got of the conversation's content, with the time of each frame."""
    content = {"monitor.started", "message.created", "typing", "panel.updated", "stream.reset"}
    return [
        (frame.at, frame.thing)
        for frame in line.written
        if not frame.sent and frame.thing.get("conversation_id") == story.id and frame.thing.get("event") in content
    ]


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("turn", range(CUTS))
async def test_a_primary_cut_off_with_a_hub(tmp_path: Path, turn: int) -> None:
    """The one side goes on without knowing of the other: no moment at which both monitors get data, nothing durable lost."""
    guarded = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "3") if turn % 2 else ()
    with machines(3) as places, service(places, *guarded) as store:
        async with running(*hubs_on(store.url, tmp_path, AWAKE, places[:2])) as centre:
            ana, bo = await centre.supervisor("ana", node=0), await centre.supervisor("bo", node=1)
            story = await centre.story()
            await story.monitored_by(ana)
            writers = [Writer(centre, story, node) for node in (0, 1)]
            await ana.expect("message.created", story.id, text="n1:10")
            places[0].cut_off()
            cut = time.monotonic()
            await _let_in_by_the_new_primary(bo, story)
            let = time.monotonic()
            await bo.expect("message.created", story.id, where=lambda event: event["data"]["text"].startswith("n1:"))
            await writers[1].durable_again()
            await asyncio.gather(*(writer.stop() for writer in writers))
            overlap = [
                body for at, body in conversation_frames(ana, story) if at >= conversation_frames(bo, story)[0][0]
            ]
            assert overlap == [], f"both monitors were given data: {overlap}"
            if ana.close_code is None:
                refusal = await ana.post("monitor.start", conversation_id=story.id)
                assert "error" in await ana.answer(refusal, 20), "let in on the side that was cut off"
            cut_off = Shown(centre.hubs[0])
            assert (await cut_off.gauge("hub_store_vouched"), await cut_off.gauge("hub_store_durable")) == (0, 0)
            assert cut_off.logged("no majority of the Sentinels names this primary")
            assert cut_off.logged("don't keep up")
            places[0].plug_in()
            await eventually(lambda: _one_primary(store), 60, "one primary again")
            there = await _one_transcript(centre, story)
            assert cut_off.logged("store: primaries are now")
            for writer in writers:
                assert [one for one in there if one in writer.durable] == writer.durable, (
                    "acknowledged, and lost or doubled"
                )
            await _said_again(centre, story, writers)
            monitors = (await centre.detail(story.id))["monitors"]
            assert [monitor["user_id"] for monitor in monitors] == ["ana", "bo"]
            unsure = [len(writer.unsure) for writer in writers]
            print(
                f"let in {let - cut:.1f} s after the cut; durable {[len(writer.durable) for writer in writers]}, not {unsure}"
            )


async def _let_in_by_the_new_primary(line: Socket, story: Story) -> None:
    async def let() -> bool:
        try:
            await let_in(line, story, 30)
        except HubError as error:
            if error.code != "store_unavailable":  # there is none yet
                raise
            return False
        return True

    await eventually(let, 30, "let in by the new primary", pause=0.1)


async def _one_primary(store: Service) -> bool:
    """All Sentinels agree, and the other engine follows whom they name."""
    named = {store.primary_by(sentinel) for sentinel in store.sentinels}
    return len(named) == 1 and followed(named.pop())


async def _one_transcript(centre: Centre, story: Story) -> list[str]:
    """The messages' ids as both hubs tell them, once the one that was cut off has left its primary."""
    healed = await story.customer_says("Healed?", node=1)

    async def seen() -> bool:
        return healed in await _messages(centre, story)

    await eventually(seen, 30, "what the other hub was told")
    return await _messages(centre, story)


async def _messages(centre: Centre, story: Story) -> list[str]:
    return [message["message_id"] for message in await centre.messages(story.id)]


async def _said_again(centre: Centre, story: Story, writers: Sequence[Writer]) -> None:
    """Whatever was unknown or may be lost is posted again with the same ids: then everything is there once."""
    wanted = set[str]()
    for writer in writers:
        again = [*writer.unknown, *writer.unsure]
        events = [
            story.event("message.created", message_id=one, text=one, purpose="customer") | {"id": f"e{one}"}
            for one in again
        ]
        wanted |= {*again, *writer.durable}
        for number in range(0, len(events), 100):
            results = await centre.platform.post(*events[number : number + 100])
            assert {result["status"] for result in results} <= {"accepted", "duplicate"}, results
    assert sorted(one for one in await _messages(centre, story) if one[0] == "n") == sorted(wanted)
