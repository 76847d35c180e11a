"""The outbox as operators see it: what waits, what was given up, and what they can do about it; by HTTP and `hub outbox`."""

import asyncio
import json
import os
import re
import sys
import uuid
from typing import Any

import pytest

from hub.cli import main
from tests.support.centre import Centre, Story
from tests.support.provider import Call, Provider, Reply, ids_of
from tests.support.socket import Json, Socket, eventually

Shop = tuple[Centre, Provider]
TEXT = "a secret recipe"


async def unwilling(call: Call, _times: int) -> Reply:
    """Never takes what is bad, and what is late not before an hour is over."""
    text = call.json["data"]["text"]
    if "bad" in text:
        return Reply(410)
    return Reply(503, {"retry-after": "3600"}) if "late" in text else Reply()


async def say(line: Socket, story: Story, text: str) -> str:
    """Write to the customer; the message's id."""
    ok = await line.command("message.send", conversation_id=story.id, text=text, client_message_id=uuid.uuid4().hex)
    return str(ok["message_id"])


async def asked(
    centre: Centre, path: str = "", method: str = "GET", role: str = "admin", **query: str
) -> tuple[int, Json]:
    """What the outbox answers an operator."""
    headers = {"authorization": f"Bearer {centre.token('olga', role)}"}
    answer = await centre.http.request(method, f"{centre.hub.url}/v1/outbox{path}", headers=headers, params=query)
    assert TEXT not in answer.text
    return answer.status_code, dict(answer.json())


async def told(line: Socket, story: Story, message_id: str, status: str) -> str | None:
    """Wait until the screen was told so; the reason."""
    event = await line.expect("message.receipt", story.id, message_id=message_id, status=status)
    reason: str | None = event["data"].get("reason")
    return reason


async def state_of(centre: Centre, id: str) -> str:
    """`waiting`, `dead`, or `gone`."""
    status, found = await asked(centre, f"/{id}")
    return "gone" if status == 404 else str(found["state"])


async def test_a_dead_letter_is_listed_and_tried_again(shop: Shop) -> None:
    """With ids, tries and reason, and nothing of what it says; once the provider takes it, it is gone from the list."""
    centre, provider = shop
    provider.habit = unwilling
    story, agent = await centre.story(), await centre.agent()
    bad, good = await say(agent, story, f"bad {TEXT}"), await say(agent, story, "good")
    assert await told(agent, story, bad, "failed") == "the receiver answered 410"
    await told(agent, story, good, "sent")
    status, listed = await asked(centre)
    [letter] = listed["actions"]
    assert (status, listed["more"]) == (200, False)
    assert (letter["id"], letter["state"], letter["conversation_id"]) == (bad, "dead", story.id)
    assert (letter["connector"], letter["type"], letter["tries"]) == (centre.platform.sub, "outbound.message", 1)
    assert letter["reason"] == "the receiver answered 410"
    provider.habit = lambda _call, _times: reply()
    assert await asked(centre, f"/{bad}/retry", "POST") == (200, {})
    await told(agent, story, bad, "sent")
    assert await state_of(centre, bad) == "gone"
    assert (await asked(centre, f"/{bad}/retry", "POST"))[0] == 404
    assert provider.delivered == {story.id: [good, bad]}


async def reply() -> Reply:
    """Taken."""
    return Reply()


async def test_a_dead_letter_is_forgotten(shop: Shop) -> None:
    """Nothing more is sent, and the message stays failed."""
    centre, provider = shop
    provider.habit = unwilling
    story, agent = await centre.story(), await centre.agent()
    bad = await say(agent, story, "bad")
    await told(agent, story, bad, "failed")
    await eventually(lambda: is_state(centre, bad, "dead"), wanted="a dead letter")
    assert await asked(centre, f"/{bad}", "DELETE") == (200, {})
    assert (await asked(centre))[1]["actions"] == []
    assert ids_of(provider.calls) == [bad]


async def is_state(centre: Centre, id: str, state: str) -> bool:
    """True when it is there."""
    return await state_of(centre, id) == state


async def test_what_waits_is_tried_now_or_given_up(shop: Shop) -> None:
    """It shows when it would be tried, and how many wait behind it; dropped, it is failed, and the next goes on."""
    centre, provider = shop
    provider.habit = unwilling
    story, agent = await centre.story(), await centre.agent()
    late, good = await say(agent, story, "late"), await say(agent, story, "good")

    async def tried(times: int) -> bool:
        found = (await asked(centre, state="waiting"))[1]["actions"]
        return [(one["id"], one["tries"], one["behind"]) for one in found] == [(late, times, 1)] and bool(
            found[0]["reason"]
        )

    await eventually(lambda: tried(1), wanted="one try")
    [waits] = (await asked(centre))[1]["actions"]
    assert waits["next_at"] - waits["at"] > 3_500_000
    assert waits["reason"] == "the receiver answered 503"
    assert await asked(centre, f"/{late}/retry", "POST") == (200, {})
    await eventually(lambda: tried(2), wanted="a second try")
    assert await asked(centre, f"/{late}", "DELETE") == (200, {})
    assert await told(agent, story, late, "failed") == "dropped by an operator"
    await told(agent, story, good, "sent")
    assert ids_of(provider.calls) == [late, late, good]


async def test_it_is_the_operators_own(shop: Shop) -> None:
    """Role `admin`; another organization's look like none; what is asked wrongly is said."""
    centre, provider = shop
    provider.habit = unwilling
    story, agent = await centre.story(), await centre.agent()
    bad = await say(agent, story, "bad")
    await told(agent, story, bad, "failed")
    await eventually(lambda: is_state(centre, bad, "dead"), wanted="a dead letter")
    for role in ("supervisor", "agent", "connector"):
        assert (await asked(centre, role=role))[0] == 403
    other = Centre(centre.hub)
    for path, method in ((f"/{bad}", "GET"), (f"/{bad}/retry", "POST"), (f"/{bad}", "DELETE"), ("/nothing", "GET")):
        assert (await asked(other, path, method))[0] == 404
    assert (await asked(other))[1]["actions"] == []
    await other.close()
    for wrong in ({"state": "alive"}, {"connector": "nobody"}, {"limit": "0"}, {"limit": "x"}, {"limit": "1001"}):
        status, error = await asked(centre, **wrong)
        assert (status, error["error"]["code"]) == (400, "schema_invalid")
        assert error["error"]["details"]["path"] == next(iter(wrong))


async def test_the_program_shows_and_mends(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`hub outbox list | show | retry | drop`, as a table for people and as JSON for programs."""
    centre, provider = shop
    provider.habit = unwilling
    story, agent = await centre.story(), await centre.agent()
    bad, worse = await say(agent, story, f"bad {TEXT}"), await say(agent, story, "bad too")
    for one in (bad, worse):
        await told(agent, story, one, "failed")
        await eventually(lambda: is_state(centre, one, "dead"), wanted="a dead letter")  # noqa: B023
    monkeypatch.setenv("HUB_TOKEN", centre.token("olga", "admin"))

    async def hub(*words: str) -> tuple[int, str, str]:
        status = await asyncio.to_thread(main, ["outbox", *words, "--url", centre.hub.url])
        shown = capsys.readouterr()
        assert TEXT not in shown.out + shown.err
        return status, shown.out, shown.err

    status, out, _ = await hub("list", "--connector", centre.platform.sub)
    heading, *rows = out.splitlines()
    assert (status, heading.split()[:3]) == (0, ["id", "state", "connector"])
    assert [row.split()[:2] for row in rows] == [[worse, "dead"], [bad, "dead"]]
    listed: Any = json.loads((await hub("list", "--json", "--state", "dead"))[1])
    assert [one["id"] for one in listed["actions"]] == [worse, bad]
    status, out, _ = await hub("show", bad)
    assert (status, "the receiver answered 410" in out) == (0, True)
    assert re.search(r"^failed_at +20[0-9-]{8}T[0-9:]{8}Z$", out, re.M), out
    assert json.loads((await hub("show", bad, "--json"))[1])["id"] == bad
    assert (await hub("drop", worse))[:2] == (0, f"{worse}  done\n")
    provider.habit = lambda _call, _times: reply()
    assert (await hub("retry", "--all-dead"))[:2] == (0, f"{bad}  done\n")
    await told(agent, story, bad, "sent")
    assert await hub("retry", "--all-dead") == (0, "", "Nothing was given up.\n")
    status, out, _ = await hub("retry", bad)
    assert (status, "No action of this id" in out) == (1, True)
    status, _, error = await hub("show", bad)
    assert (status, "unknown_conversation" in error) == (1, True)
    assert (await hub("retry"))[0] == 2
    assert (await hub("drop", bad, "--all-dead"))[0] == 2
    assert (await hub("list", "--token", centre.token("ana")))[0] == 1
    monkeypatch.delenv("HUB_TOKEN")
    assert (await hub("list"))[0] == 2


def test_no_hub_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """In one sentence, with the address."""
    assert main(["outbox", "list", "--token", "x", "--url", "http://127.0.0.1:1"]) == 1
    assert capsys.readouterr().err == "No hub answers at http://127.0.0.1:1.\n"


async def test_a_reader_that_has_gone_is_no_missing_hub(shop: Shop) -> None:
    """`hub outbox list | head`: who reads the output may go; that says nothing about the hub."""
    centre, _ = shop
    reading, writing = os.pipe()
    os.close(reading)
    words = ["outbox", "list", "--json", "--url", centre.hub.url, "--token", centre.token("olga", "admin")]
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub", *words, stdout=writing, stderr=asyncio.subprocess.PIPE
    )
    os.close(writing)
    _, error = await program.communicate()
    assert (program.returncode, error) == (1, b"")
