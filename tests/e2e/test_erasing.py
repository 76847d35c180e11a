"""
Erasing a customer: nothing of theirs is left, and everybody is told in time.

A word that occurs nowhere else is planted into everything that a platform, a customer or a person can say of them; then
every key of the store, its append-only file and its snapshot are searched for it.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.test_sms import FIRST, House, Texts
from tests.support.centre import Centre, Story, confirm
from tests.support.fixtures import PATIENT, east_and_west, running
from tests.support.processes import CONFIG, ROOT, SECRET, HubProcess, StoreProcess
from tests.support.socket import Json, eventually
from tests.support.store import ask
from tests.support.view import View

CANARY = "kanarienvogel"
CUSTOMER = f"cus-{CANARY}"
QUICK = PATIENT + "erasure_wait_ms = 1000\nledger_seal_ms = 1000\n"
READ = {
    b"string": ("GET",),
    b"list": ("LRANGE", "0", "-1"),
    b"set": ("SMEMBERS",),
    b"zset": ("ZRANGE", "0", "-1", "WITHSCORES"),
    b"hash": ("HGETALL",),
    b"stream": ("XRANGE", "-", "+"),
}


class Place:
    """A hub over a store that keeps files; `centre` is an organization there."""

    def __init__(self, centre: Centre, store: StoreProcess, *hubs: HubProcess) -> None:
        self.centre = centre
        self.store = store
        self.hubs = hubs

    async def admin(self, method: str, path: str, **options: Any) -> Json:
        """An administrator's request that must be answered."""
        bearer = self.centre.token("root", "admin", permissions=["admin"])
        answer = await self.centre.http.request(
            method, self.centre.hub.url + path, headers={"authorization": f"Bearer {bearer}"}, **options
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def erased(self, customer: str = CUSTOMER) -> Json:
        """Ask for the erasing, and wait until it is done."""
        asked = await self.admin("POST", "/v1/erasures", json={"customer_id": customer})
        return await self.finished(asked["erasure_id"])

    async def finished(self, erasure: str) -> Json:
        """Wait until it is done; how it stands then."""
        found: Json = {}

        async def done() -> bool:
            found.update(await self.admin("GET", f"/v1/erasures/{erasure}"))
            return bool(found["state"] == "done")

        await eventually(done, wanted=f"done: {found}", timeout=30.0)
        return found

    async def everything(self) -> list[str]:
        """All keys and what they hold, one text each."""
        found = []
        for key in await ask(self.store, "KEYS", "*"):
            how = READ.get(await ask(self.store, "TYPE", key.decode()))
            if how is None:  # it was kept for a while only, and that is over
                continue
            found.append(f"{key!r} {await ask(self.store, how[0], key.decode(), *how[1:])!r}")
        return found

    async def traces(self, word: str) -> list[str]:
        """Keys whose name or content has the word."""
        return [one.partition(" ")[0] for one in await self.everything() if word in one]

    async def rewrite(self) -> None:
        """The engine's files, as they would be written now."""

        async def written() -> bool:
            info = (await ask(self.store, "INFO", "persistence")).decode()
            return "aof_rewrite_in_progress:0" in info and "aof_rewrite_scheduled:0" in info

        await eventually(written, wanted="an earlier rewriting to end", timeout=20.0)
        await ask(self.store, "BGREWRITEAOF")
        await eventually(written, wanted="the file to be written", timeout=20.0)
        await ask(self.store, "CONFIG", "SET", "rdbcompression", "no")
        await ask(self.store, "SAVE")

    async def kept(self) -> str:
        """Every key with what it holds, then the engine's files as they would be written now."""
        await self.rewrite()
        found = "\n".join(await self.everything())
        return found + "\n".join(path.read_bytes().decode("latin-1") for path in self.engine_files())

    def engine_files(self) -> list[Path]:
        """The append-only file and the snapshot."""
        kept = [path for path in self.store.folder.rglob("*") if path.is_file()]
        assert any(path.suffix == ".rdb" for path in kept)
        assert any(".incr." in path.name for path in kept)
        return kept

    def files(self, word: str) -> list[str]:
        """The engine's files that have the word."""
        return [path.name for path in self.engine_files() if word.encode() in path.read_bytes()]


Nodes = tuple[StoreProcess, tuple[HubProcess, HubProcess]]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A provider of text messages."""
    house = House(1)
    with house.server:
        yield house


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory, house: House) -> Iterator[Nodes]:
    """Two nodes over a store with an append-only file that isn't compressed."""
    folder = tmp_path_factory.mktemp("erasing")
    options = ("--appendonly", "yes", "--rdbcompression", "no", "--auto-aof-rewrite-percentage", "0")
    store = StoreProcess(folder / "store", options).start()
    hubs = east_and_west(folder, store.url, house.tables + QUICK)
    for hub in hubs:
        hub.start()
    yield store, hubs
    for hub in hubs:
        hub.kill()
    store.kill()


@pytest_asyncio.fixture
async def place(two_nodes: Nodes) -> AsyncIterator[Place]:
    """A fresh organization there."""
    store, hubs = two_nodes
    centre = Centre(*hubs)
    yield Place(centre, store, *hubs)
    await centre.close()


async def planted(centre: Centre, conversation: str, **about: Any) -> Story:
    """A conversation that has the word in everything that somebody can say of a customer."""
    return await centre.story(
        conversation,
        queue="billing",
        customer={"id": CUSTOMER, "name": f"Dana {CANARY}"},
        subject=f"About {CANARY}",
        panels={"crm": {"note": CANARY, CANARY: 1}},
        **about,
    )


async def test_nothing_of_an_erased_customer_is_left(place: Place) -> None:
    """Whatever was said, shown, drafted, handed in or waits: no key and no file has it, and the ledger is whole."""
    centre, word = place.centre, CANARY
    platform = await centre.connector()
    ana, max_ = await centre.supervisor("ana"), await centre.agent("max")
    story = await planted(centre, f"running-{word}")
    ended = await planted(centre, f"ended-{word}")
    await centre.platform.accepted(
        story.event("message.created", message_id=f"m-{word}", text=f"I am {word}", purpose="customer")
        | {"id": f"e-{word}"},
        story.event("message.receipt", message_id=f"m-{word}", status="read"),
        story.event("panel.updated", panel=f"panel-{word}", content={"text": word}),
    )
    dana = await centre.customer(story.id, CUSTOMER, name=f"Dana {word}")
    await dana.command(
        "message.send", conversation_id=story.id, text=f"me, {word}", client_message_id=f"c-{word}", req=f"r-{word}"
    )
    await max_.command("message.send", conversation_id=story.id, text=f"Hello {word}", client_message_id="1", req="q1")
    await max_.command("draft.update", conversation_id=story.id, text=f"Dear {word}")
    await story.monitored_by(ana)
    await confirm(ana, await story.prepared_by(ana))
    await ana.command("message.send", conversation_id=story.id, text=f"Now me, {word}", client_message_id="1")
    await max_.command("wrapup.submit", conversation_id=story.id, code="resolved", notes=f"it was {word}")
    await ended.agent_says(f"Bye {word}")
    await ended.end(word)
    left = await centre.story("other")
    assert len(await place.traces(word)) > 12, "planted well"
    await place.rewrite()
    assert len(place.files(word)) > 1, "files are searched well"
    found = await place.erased()
    assert (found["conversations"], found["erased"], found["files_rewritten"]) == (2, 2, True)
    assert await place.traces(word) == []
    await place.rewrite()
    assert place.files(word) == []
    assert place.files(left.id) != [], "others' stays"
    assert (await centre.row(left.id))["conversation_id"] == left.id
    assert "nothing was found" in await program(place, "ledger", "verify", "--redis-url", place.store.url)
    logs = "".join(hub.log.read_text() for hub in place.hubs)
    assert word not in logs
    assert "starts again" not in logs, "no follower noticed that boards were written anew"
    assert "Traceback" not in logs
    assert platform.actions(story.id)


def note_names(*keys: str) -> list[str]:
    """What the store calls notes of these keys."""
    return [blake2b(key.encode(), digest_size=16, person=b"note").hexdigest() for key in keys]


async def test_what_an_adapter_noted_goes_with_the_customer(two_nodes: Nodes, house: House) -> None:
    """
    Text messages, an answer and its reports, a STOP, an end and the next conversation: all leave notes under hashes of the
    number. No key and no file has one of them afterwards, whoever else writes keeps theirs, and the number begins anew.
    """
    store, hubs = two_nodes
    account = next(house.free)
    centre = Centre(*hubs, org=account.org)
    place, texts = Place(centre, store, *hubs), Texts(centre, account)
    try:
        sid, stranger = await texts.text("Where is it?"), "+15005550199"
        agent = await texts.joined()
        message = await texts.said(agent, "Under way.")
        await texts.tried()
        callback = dict(texts.account.asked[0].form)["StatusCallback"]
        assert (await texts.post({"MessageStatus": "delivered"}, callback)).status_code == 200
        await agent.expect("message.receipt", FIRST, status="delivered")
        await texts.router.accepted(texts.router.event("conversation.ended", FIRST))
        again = await texts.text("Stop", node=1)
        third = await texts.text("And now?", node=1)
        await texts.text("I am somebody else", sid="SMother", From=stranger)
        pair, other = "15005550006:15005550101", "15005550006:15005550199"
        mine = note_names(
            *(f"at:{pair}:{one}:0" for one in (sid, again, third)), f"at:{pair}:{again}:1", f"over:{pair}:1",
            f"from:{pair}", f"stop:{pair}", f"word:{sid}", f"word:{again}", f"sent:{message}", f"there:{message}:1",
        )  # fmt: skip
        [theirs] = note_names(f"at:{other}:SMother:0")
        before = await place.kept()
        assert [name for name in (*mine, theirs, "15005550101") if before.count(name) < 2] == [], "planted, and on disk"
        assert (await place.erased("tel:15005550101"))["erased"] == 2
        after = await place.kept()
        assert [name for name in (*mine, "15005550101") if name in after] == []
        assert theirs in after, "others' stays"
        await texts.text("Hello again")
        assert [one["text"] for one in await texts.texts_of(FIRST)] == ["Hello again"]
    finally:
        await centre.close()


async def program(place: Place, *words: str, status: int = 0) -> str:
    """Output of `hub`, run beside the hubs."""
    line = [sys.executable, "-m", "hub", *words, "--config", str(place.hubs[0].config)]
    env = {"HUB_TOKEN_SECRET": SECRET, "PATH": "/usr/bin:/bin"}
    run = await asyncio.to_thread(subprocess.run, line, capture_output=True, text=True, cwd=ROOT, env=env, timeout=60)
    assert run.returncode == status, f"{run.returncode}: {run.stdout}{run.stderr}"
    return run.stdout


async def no_row(view: View, conversation: str) -> None:
    """Wait until a view doesn't show it any more."""
    await view.socket.until(lambda: conversation not in view.rows, wanted="no row")


ANYTHING = {"conversation_id", "cursor", "at", "monitor_id", "duration_ms", "action_id", "subscription"}


def same_but_for_ids(event: Json) -> Json:
    """The event with the type alone of what differs from one time to the next."""
    found: Json = {key: type(value).__name__ if key in ANYTHING else value for key, value in event.items()}
    return found | {"data": same_but_for_ids(event["data"])} if "data" in event else found


def as_documented(endpoint: str, event: Json, removed: str = "") -> bool:
    """True where the samples of the endpoint have this very frame, its ids aside; `removed`: what the sample's `cnv_1` is."""
    samples = [
        json.loads(one["frame"]) for one in json.loads((ROOT / "tests" / "frames" / f"{endpoint}.json").read_text())
    ]
    own = json.loads(json.dumps(event).replace(f'["{removed}"]', '["cnv_1"]')) if removed else event
    return same_but_for_ids(own) in [same_but_for_ids(one) for one in samples if one.get("event") == event["event"]]


async def test_everybody_is_told_before_it_is_gone(place: Place) -> None:
    """
    Agent, customer, platform and monitor are told of the end, as documented; views of both nodes lose the row.

    Then it is unknown.
    """
    centre = place.centre
    platform = await centre.connector()
    ana, bo = await centre.supervisor("ana"), await centre.supervisor("bo", node=1)
    agent = await centre.agent("max", node=1)
    story = await planted(centre, "cnv_1")
    dana = await centre.customer(story.id, CUSTOMER)
    views = [await View.open(one, "interactions") for one in (ana, bo)]
    await story.monitored_by(ana)
    asked = await place.admin("POST", "/v1/erasures", json={"customer_id": CUSTOMER})
    assert (asked["conversations"], asked["state"]) == (1, "running")
    told = [
        ("agent", await agent.expect("conversation.ended", story.id, reason="erased")),
        ("customer", await dana.expect("conversation.ended", story.id)),
        ("supervisor", await ana.expect("monitor.ended", story.id, reason="conversation_ended")),
        *(("supervisor", event) for event in ana.of(story.id, "conversation.ended")),
        ("connector", await platform.carry_out("conversation.ended", story.id, reason="erased")),
    ]
    assert [endpoint for endpoint, event in told if as_documented(endpoint, event)] == [
        *("agent", "customer", "supervisor", "supervisor", "connector"),
    ], told
    for view in views:
        await no_row(view, story.id)
    [gone] = [one for one in ana.events if one["event"] == "view.changed" and one["data"]["removed"] == [story.id]]
    assert as_documented("supervisor", gone, story.id), gone
    assert (await place.finished(asked["erasure_id"]))["erased"] == 1
    assert [event for event in agent.events if event["event"].startswith("wrapup.")] == []
    await agent.refused(
        "unknown_conversation", "message.send", conversation_id=story.id, text="?", client_message_id="1"
    )
    await story.centre.platform.refused(
        "unknown_conversation", story.event("message.created", message_id="m", text="?", purpose="customer")
    )
    assert (await centre.get(f"/v1/conversations/{story.id}")).status_code == 404


async def test_a_platform_that_is_away_does_not_keep_it(place: Place) -> None:
    """Nobody reports the end; after `erasure_wait_ms` it is erased all the same, and waits for nobody in the outbox."""
    story = await planted(place.centre, "cnv_1")
    assert (await place.erased())["erased"] == 1
    assert await place.traces(f"/{story.id}'") == []


async def test_asking_again_is_the_same_erasure(place: Place) -> None:
    """While it is under way and after it; and what the customer began since goes with the next one."""
    await planted(place.centre, "cnv_1")
    first = await place.admin("POST", "/v1/erasures", json={"customer_id": CUSTOMER})
    again = await place.admin("POST", "/v1/erasures", json={"customer_id": CUSTOMER})
    assert (again["erasure_id"], again["conversations"], again["asked_at"]) == (
        first["erasure_id"],
        1,
        first["asked_at"],
    )
    done = await place.finished(first["erasure_id"])
    assert (done["conversations"], done["erased"]) == (1, 1)
    assert CUSTOMER not in json.dumps(done)
    nothing = await place.erased()
    assert (nothing["erasure_id"], nothing["conversations"]) == (first["erasure_id"], 0)
    await planted(place.centre, "cnv_1")
    assert (await place.erased())["conversations"] == 1


async def test_only_ones_own_and_only_by_admins(place: Place) -> None:
    """Another organization's customer of the same id stays; other roles, other forms and foreign ids are refused."""
    other = Centre(*place.hubs)
    kept = await planted(other, "cnv_1")
    await planted(place.centre, "cnv_1")
    erasure = (await place.erased())["erasure_id"]
    assert (await other.row(kept.id))["customer"]["id"] == CUSTOMER
    url = place.hubs[0].url + "/v1/erasures"

    async def status(method: str, at: str, role: str, body: object = None, centre: Centre = place.centre) -> int:
        headers = {"authorization": f"Bearer {centre.token('x', role, permissions=['admin'])}"}
        return (await centre.http.request(method, at, headers=headers, json=body)).status_code

    for role in ("supervisor", "agent", "connector", "customer"):
        assert await status("POST", url, role, {"customer_id": CUSTOMER}) == 403
        assert await status("GET", f"{url}/{erasure}", role) == 403
    wrong: list[object] = [{}, {"customer_id": 7}, {"customer_id": "a b"}, {"customer_id": "a", "more": 1}, [], "x"]
    for body in wrong:
        assert await status("POST", url, "admin", body) == 400, body
    assert await status("GET", f"{url}/{erasure}", "admin", centre=other) == 404
    assert await status("GET", f"{url}/era_nothing", "admin") == 404
    await other.close()


async def test_another_node_goes_on_with_it(tmp_path: Path) -> None:
    """The hub that was asked is killed at once, and again its successor: whoever is left erases everything."""
    store = StoreProcess(tmp_path / "store").start()
    hubs = east_and_west(tmp_path, store.url, QUICK)
    try:
        async with running(*hubs) as centre:
            place = Place(centre, store, *hubs)
            for number in range(8):
                await planted(centre, f"cnv_{number}")
            asked = await place.admin("POST", "/v1/erasures", json={"customer_id": CUSTOMER})
            assert asked["conversations"] == 8
            hubs[0].kill()
            centre.hubs = (hubs[1],)
            done = await place.finished(asked["erasure_id"])
            assert (done["conversations"], done["erased"]) == (8, 8)
            assert await place.traces(CANARY) == []
    finally:
        store.kill()


async def test_the_program_asks_and_tells(place: Place) -> None:
    """`hub erase` needs no token; running hubs carry it out; what it isn't told is an error that says so."""
    await planted(place.centre, "cnv_1")
    about = ("--redis-url", place.store.url, "--org", place.centre.org, "--customer", CUSTOMER)
    await program(place, "erase", *about, "--status", status=1)
    done = json.loads(await program(place, "erase", *about, "--wait"))
    assert (done["state"], done["conversations"], done["erased"]) == ("done", 1, 1)
    assert json.loads(await program(place, "erase", *about, "--status")) == done
    await program(place, "erase", *about[:-1], "not an id", status=2)


async def test_queues_keep_what_has_ended_as_long_as_they_say(tmp_path: Path) -> None:
    """
    A queue's own retention, and the general one for all others; after a restart with another configuration what has ended
    follows that one. The ledger stays, and can be checked while the hub runs and when it doesn't.
    """
    long = "[queues.support]\nretention_ms = 600000\n"
    limits = "retention_ms = 500\nsweep_ms = 200\nledger_seal_ms = 500\n"
    hub = HubProcess(tmp_path / "hub", config=CONFIG.replace("[queues.support]\n", long) + limits).start()
    centre = Centre(hub, org="acme")

    async def gone(conversation: str) -> None:
        async def asked() -> bool:
            return (await centre.get(f"/v1/conversations/{conversation}")).status_code == 404

        await eventually(asked, wanted=f"{conversation} to go", timeout=20.0)

    try:
        kept, short = await centre.story("kept", agents=()), await centre.story("short", queue="abroad", agents=())
        for story in (kept, short):
            await story.end()
        await gone(short.id)
        assert (await centre.row(kept.id))["state"] == "ended"
        await (await centre.story("late", agents=())).end()
        place = Place(centre, StoreProcess(tmp_path / "none"), hub)
        assert "nothing was found" in await program(place, "ledger", "verify", "--data-dir", str(hub.data))
        hub.stop()
        said = await program(place, "ledger", "verify", "--data-dir", str(hub.data))
        assert "nothing was found" in said
        assert " 0 lines not sealed yet" in said, "the last hub seals as it ends"
        hub.config.write_text(CONFIG + limits)
        hub.start()
        await gone(kept.id)
        said = await program(place, "ledger", "show", "kept", "--data-dir", str(hub.data))
        assert [line.split()[1] for line in said.splitlines()] == [
            *("conversation.started", "conversation.ended", "conversation.erased"),
        ]
        assert "why=retention" in said
    finally:
        await centre.close()
        hub.kill()
