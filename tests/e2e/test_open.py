"""Open messaging on a real hub: actions as signed webhooks to a real server, events as signed webhooks from it."""

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import httpx
from standardwebhooks.webhooks import Webhook

from tests.support.centre import Centre
from tests.support.files import png, uploaded
from tests.support.processes import HubProcess
from tests.support.provider import FAST, Call, Provider, Reply, ids_of, new_secret, open_config, open_table, providing


async def test_an_agents_message_is_a_signed_webhook(shop: tuple[Centre, Provider]) -> None:
    """It arrives once, signed, under the message's id, and the agent's screen is told `sent`."""
    centre, provider = shop
    story = await centre.story()
    agent = await centre.agent()
    said = await agent.command("message.send", conversation_id=story.id, text="Hello", client_message_id="c1")
    await agent.expect("message.receipt", story.id, message_id=said["message_id"], status="sent")
    [call] = provider.calls
    assert call.id == said["message_id"]
    assert call.json["data"]["text"] == "Hello"
    assert call.json["customer_id"] == "cus_7"
    assert provider.delivered == {story.id: [said["message_id"]]}


# -- events in ---------------------------------------------------------------------------------------------------------------


def signed(
    provider: Provider, body: str, *, id: str | None = None, ago_s: int = 0, secret: str | None = None
) -> tuple[str, dict[str, str]]:
    """A request's body and headers, as the convention's own library signs them."""
    id, seconds = id or "wh-" + uuid.uuid4().hex, int(time.time()) - ago_s
    signature = Webhook(secret or provider.secrets[0]).sign(id, datetime.fromtimestamp(seconds, UTC), body)
    return body, {"webhook-id": id, "webhook-timestamp": str(seconds), "webhook-signature": signature}


async def post(centre: Centre, request: tuple[str, dict[str, str]], connector: str = "") -> httpx.Response:
    """Send it to the channel."""
    body, headers = request
    return await centre.http.post(
        f"{centre.hub.url}/v1/channels/{connector or centre.platform.sub}", content=body, headers=headers
    )


async def test_signed_events_are_taken(shop: tuple[Centre, Provider]) -> None:
    """A list of them, or one alone; the answer says of each what became of it, and a refused one is no error."""
    centre, provider = shop
    story = await centre.story()
    said = story.event("message.created", message_id="m1", text="Hi", purpose="customer")
    stale = story.event("message.created", message_id="m2", text="Hi", participant_id="p_nobody")
    answer = await post(centre, signed(provider, json.dumps({"events": [said, stale, {"type": "no"}]})))
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [one["status"] for one in results] == ["accepted", "refused", "refused"]
    assert [one.get("error", {}).get("code") for one in results] == [None, "stale_owner", "schema_invalid"]
    again = await post(centre, signed(provider, json.dumps(said)))
    assert [one["status"] for one in again.json()["results"]] == ["duplicate"]
    assert [one["text"] for one in await centre.messages(story.id)] == ["Hi"]


async def test_what_is_not_theirs_is_refused(shop: tuple[Centre, Provider]) -> None:
    """Stale, of another key, without a signature, encoded anew: 401, and nothing of it is taken."""
    centre, provider = shop
    story = await centre.story()
    body = json.dumps(story.event("message.created", message_id="m1", text="Hi", purpose="customer"))
    right, headers = signed(provider, body)
    refused = [
        signed(provider, body, ago_s=301),
        signed(provider, body, ago_s=-302),
        signed(provider, body, secret=new_secret()),
        (body, {}),
        (json.dumps(json.loads(right), separators=(",", ":")), headers),
        (right, {**headers, "webhook-id": "other"}),
    ]
    for one in refused:
        answer = await post(centre, one)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
    assert await centre.messages(story.id) == []
    assert (await post(centre, (right, headers))).status_code == 200


async def test_a_replay_is_refused_and_a_retry_is_not(shop: tuple[Centre, Provider]) -> None:
    """The same bytes again are a replay; the sender's own repeat has a time of its own, and is answered."""
    centre, provider = shop
    story = await centre.story()
    body = json.dumps(story.event("message.created", message_id="m1", text="Hi", purpose="customer"))
    first = signed(provider, body, id="wh-1", ago_s=2)
    assert (await post(centre, first)).status_code == 200
    assert [(await post(centre, first)).status_code for _ in range(3)] == [401] * 3
    retried = await post(centre, signed(provider, body, id="wh-1"))
    assert (retried.status_code, retried.json()["results"][0]["status"]) == (200, "duplicate")
    at_once = signed(provider, body, id="wh-2")
    statuses = [one.status_code for one in await asyncio.gather(*(post(centre, at_once) for _ in range(8)))]
    assert sorted(statuses) == [200] + [401] * 7
    assert len(await centre.messages(story.id)) == 1


async def test_what_was_not_carried_out_may_come_again_as_it_was(shop: tuple[Centre, Provider]) -> None:
    """A request that was refused for its body is not remembered: mended by nobody, it is refused for the same again."""
    centre, provider = shop
    broken = signed(provider, "[]")
    codes = [(await post(centre, broken)).json()["error"]["code"] for _ in range(2)]
    assert codes == ["schema_invalid", "schema_invalid"]


async def test_the_route_has_its_bounds(shop: tuple[Centre, Provider]) -> None:
    """A connector that isn't there looks like no route; a body has a limit; other methods aren't there."""
    centre, provider = shop
    nowhere = await post(centre, signed(provider, "{}"), "nobody")
    lost = await centre.http.post(f"{centre.hub.url}/v1/nothing")
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (404, "schema_invalid")
    assert lost.status_code == 404
    large = await post(centre, signed(provider, "x" * 1_048_577))
    assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")
    many = await post(centre, signed(provider, json.dumps({"events": [{"type": "x"}] * 1_001})))
    assert (many.status_code, many.json()["error"]["code"]) == (413, "too_large")
    url = f"{centre.hub.url}/v1/channels/{centre.platform.sub}"
    assert (await centre.http.put(url)).status_code == 405
    assert (await centre.http.get(f"{url}/more")).status_code == 400


async def test_a_socket_of_the_connector_gets_no_actions(shop: tuple[Centre, Provider]) -> None:
    """The hub delivers for it by itself; its events and its later reports are taken all the same."""
    centre, provider = shop
    line = await centre.connector(centre.platform.sub)
    story = await centre.story()
    agent = await centre.agent()
    said = await agent.command("message.send", conversation_id=story.id, text="Hello", client_message_id="c1")
    await agent.expect("message.receipt", story.id, message_id=said["message_id"], status="sent")
    await line.socket.command("delivery.report", message_id=said["message_id"], status="read")
    await agent.expect("message.receipt", story.id, message_id=said["message_id"], status="read")
    assert line.actions(story.id) == []
    assert ids_of(provider.calls) == [said["message_id"]]


async def test_a_takeover_reaches_the_provider_in_order(shop: tuple[Centre, Provider]) -> None:
    """Who left, who came, whose name is shown, then what they say; each once."""
    centre, provider = shop
    story = await centre.story()
    ana = await centre.supervisor()
    await story.taken_over_by(ana)
    said = await ana.command("message.send", conversation_id=story.id, text="Hello", client_message_id="c1")
    await ana.expect("message.receipt", story.id, message_id=said["message_id"], status="sent")
    kinds = ["participant.disconnected", "participant.connected", "sender.changed", "outbound.message"]
    assert [call.json["type"] for call in provider.calls] == kinds
    assert len({call.id for call in provider.calls}) == 4


async def test_a_monitor_sends_nothing(shop: tuple[Centre, Provider]) -> None:
    """A provider's stream is what it would be without one."""
    centre, provider = shop
    story = await centre.story()
    ana, agent = await centre.supervisor(), await centre.agent()
    await story.monitored_by(ana)
    said = await agent.command("message.send", conversation_id=story.id, text="Hello", client_message_id="c1")
    await ana.expect("message.receipt", story.id, message_id=said["message_id"], status="sent")
    await ana.command("monitor.stop", conversation_id=story.id)
    more = await agent.command("message.send", conversation_id=story.id, text="Bye", client_message_id="c2")
    await agent.expect("message.receipt", story.id, message_id=more["message_id"], status="sent")
    assert [sorted(call.json) for call in provider.calls] == [
        ["at", "conversation_id", "customer_id", "data", "id", "timestamp", "type"]
    ] * 2
    assert provider.delivered == {story.id: [said["message_id"], more["message_id"]]}


async def test_keys_are_changed_without_a_gap(tmp_path: Path) -> None:
    """While both stand there, receivers with either key verify what goes out, and either signs what comes in."""
    org, old, new = "org-" + uuid.uuid4().hex[:12], new_secret(), new_secret()
    async with providing(old) as provider:
        table = open_table("platform", org, provider.url, new, f'secret_previous = "{old}"')
        config = open_config(table, limits=FAST)
        centre = Centre(HubProcess(tmp_path, config=config).start(), org=org)
        try:
            story, agent = await centre.story(), await centre.agent()
            for number, secret in enumerate((old, new)):
                provider.secrets = (secret,)
                sent = await agent.command(
                    "message.send", conversation_id=story.id, text="Hello", client_message_id=f"c{number}"
                )
                await agent.expect("message.receipt", story.id, message_id=sent["message_id"], status="sent")
                body = json.dumps(story.event("typing", on=True, purpose="customer"))
                assert (await post(centre, signed(provider, body, secret=secret))).status_code == 200
        finally:
            await centre.close()
            centre.hub.kill()


async def test_a_provider_can_open_what_is_sent(tmp_path: Path) -> None:
    """A file's address is a whole one, opens it without a token, and is the same in every try."""

    async def busy_once(_call: Call, times: int) -> Reply:
        return Reply(503) if times == 1 else Reply()

    org = "org-" + uuid.uuid4().hex[:12]
    async with providing(habit=busy_once) as provider:
        table = open_table("platform", org, provider.url, provider.secrets[0])
        hub = HubProcess(tmp_path)
        hub.config.write_text(f'public_url = "{hub.url}"\n' + open_config(table, limits=FAST))
        centre = Centre(hub.start(), org=org)
        try:
            story, agent = await centre.story(), await centre.agent()
            bearer = centre.token("max", "agent")
            files = [await uploaded(centre, bearer, story.id, "a b.png", png())]
            sent = await agent.command(
                "message.send", conversation_id=story.id, text="", client_message_id="c1", attachments=files
            )
            await agent.expect("message.receipt", story.id, message_id=sent["message_id"], status="sent")
            first, second = provider.calls
            assert first.body == second.body
            [file] = second.json["data"]["attachments"]
            opened = await centre.http.get(file["url"])
            assert (opened.status_code, opened.content) == (200, png())
            assert (await centre.http.get(file["url"][:-1] + "x")).status_code in (401, 403, 404)
        finally:
            await centre.close()
            hub.kill()
