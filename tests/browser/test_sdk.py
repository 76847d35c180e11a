"""The browser SDK against a real hub: connect, resume, commands that happen once, views, close codes."""

import json
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page

from tests.browser.conftest import Visits
from tests.support.centre import Centre
from tests.support.socket import eventually

# What a test's page has: `connect(endpoint, token)` makes `hub` and notes what it hears.
PRELUDE = """
async ([endpoint, token]) => {
  const sdk = await import('/assets/sdk.js');
  const heard = [], states = [], sessions = [];
  const getToken = async () => {
    const answer = await fetch('/v1/tickets', {method: 'POST', headers: {authorization: 'Bearer ' + token}});
    const body = await answer.json();
    if (!answer.ok) throw new sdk.HubError(body.error.code, body.error.message, false, {});
    return body.ticket;
  };
  const url = location.origin.replace('http', 'ws') + '/v1/' + endpoint;
  const hub = new sdk.HubConnection({url, getToken});
  hub.addEventListener('event', (event) => heard.push(event.detail));
  hub.addEventListener('state', (event) => states.push(event.detail));
  hub.addEventListener('session', (event) => sessions.push(event.detail));
  Object.assign(window, {sdk, hub, heard, states, sessions});
  hub.connect();
}
"""


async def connected(page: Page, endpoint: str, token: str) -> None:
    """A connection in the page, live."""
    await page.evaluate(PRELUDE, [endpoint, token])
    await live(page)


async def live(page: Page) -> None:
    """Wait until the connection is live."""
    await page.wait_for_function("window.hub.state === 'live'")


async def refusal(page: Page, script: str) -> Any:
    """What a rejected promise was rejected with."""
    return await page.evaluate(
        f"({script}).then((ok) => ({{ok}}), (e) => ({{name: e.name, code: e.code, details: e.details}}))"
    )


@pytest_asyncio.fixture(loop_scope="session")
async def page(visit: Visits) -> Page:
    """A page of the hub's own origin without an app."""
    return await visit("/readyz")


async def test_hello_by_ticket_and_a_command(page: Page, centre: Centre) -> None:
    """The connection knows who it is and what it may; a command brings its `ok`, a refusal a `HubError`."""
    await connected(page, "supervisor", centre.token("ana"))
    assert await page.evaluate("hub.user") == {"id": "ana", "name": "Ana Ortiz"}
    assert "monitor" in await page.evaluate("hub.permissions")
    assert await page.evaluate("hub.command('status.set', {status: 'available'})") == {}
    assert await page.evaluate("hub.status") == "available"
    refused = await refusal(page, "hub.command('monitor.start', {conversation_id: 'nowhere'})")
    assert (refused["name"], refused["code"]) == ("HubError", "unknown_conversation")


async def test_a_lost_network_is_caught_up(visit: Visits, page: Page, centre: Centre) -> None:
    """The session is resumed, what was missed comes once and in order, and a command meanwhile happens once."""
    await connected(page, "supervisor", centre.token("ana"))
    story = await centre.story()
    await page.evaluate("hub.command('status.set', {status: 'available'})")
    await page.evaluate(f"hub.command('monitor.start', {{conversation_id: {json.dumps(story.id)}}})")
    # What is said before the snapshot was read stands in it, and isn't sent again.
    await page.wait_for_function("heard.some((event) => event.event === 'monitor.started')")
    await story.customer_says("one")
    await page.wait_for_function("heard.some((event) => event.data.text === 'one')")
    await visit.cut_network(page)
    await page.wait_for_function("hub.state === 'waiting'")
    await page.evaluate("window.later = hub.command('status.set', {status: 'busy'}); 0")
    for text in ("two", "three"):
        await story.customer_says(text)
    await visit.cut_network(page, off=False)
    assert await page.evaluate("later") == {}
    await live(page)
    await page.wait_for_function("heard.some((event) => event.data.text === 'three')")
    said = await page.evaluate("heard.filter((event) => event.event === 'message.created').map((e) => e.data.text)")
    assert said == ["one", "two", "three"]
    assert await page.evaluate("sessions.map((one) => one.resumed)") == [False, True]
    states = await page.evaluate("states.map((one) => one.state)")
    assert states[-3:] == ["connecting", "catching-up", "live"]


async def test_a_reload_keeps_the_monitor(page: Page, centre: Centre) -> None:
    """Session and secret outlive the page, so the monitor does; the snapshot comes again, signing out frees it."""
    token, story = centre.token("ana"), await centre.story()
    await connected(page, "supervisor", token)
    await page.evaluate("hub.command('status.set', {status: 'available'})")
    first = await page.evaluate(f"hub.command('monitor.start', {{conversation_id: {json.dumps(story.id)}}})")
    await page.reload()
    await connected(page, "supervisor", token)
    await page.wait_for_function("heard.some((event) => event.event === 'monitor.started')")
    again = await page.evaluate("heard.find((event) => event.event === 'monitor.started').data.monitor_id")
    assert again == first["monitor_id"]
    assert await page.evaluate("sessions[0].resumed")
    await page.evaluate("hub.signOut()")
    await centre.row_with(story.id, monitor=None)
    assert await page.evaluate("sessionStorage.length") == 0


async def test_a_view_follows_and_outlives_its_session(page: Page, centre: Centre) -> None:
    """Rows come, change and leave; another filter replaces them; a new session subscribes again."""
    token = centre.token("ana")
    await connected(page, "supervisor", token)
    first = await centre.story("cnv_a")
    await page.evaluate("window.view = hub.view('interactions', {}); 0")
    await page.wait_for_function("view.ready && view.rows.has('cnv_a')")
    await centre.story("cnv_b", queue="billing")
    await page.wait_for_function("view.rows.has('cnv_b')")
    await first.end()
    await page.wait_for_function("!view.rows.has('cnv_a')")
    await page.evaluate("view.update({filter: {queues: ['support']}})")
    await page.wait_for_function("view.rows.size === 0")
    await page.evaluate("view.update({filter: {queues: ['billing']}})")
    await page.wait_for_function("view.rows.has('cnv_b')")
    # Another page takes the session away: this one stops, and a new session asks for the view again.
    kept = await page.evaluate("JSON.parse(sessionStorage.getItem('hub.session'))")
    thief = await centre.supervisor(resume={**kept, "cursors": {}}, status=None)
    await page.wait_for_function("hub.state === 'stopped' && hub.reason === 'elsewhere'")
    await page.evaluate("hub.connect()")
    await live(page)
    await centre.story("cnv_c", queue="billing")
    await page.wait_for_function("view.rows.has('cnv_c') && view.rows.has('cnv_b')")
    await thief.close()


async def test_a_conversation_is_folded(page: Page, centre: Centre) -> None:
    """`ConversationStore` gives the same from a snapshot and events as from a later snapshot."""
    story = await centre.story(panels={"customer": {"tier": "gold"}})
    await connected(page, "agent", centre.token("max", "agent"))
    await page.evaluate(
        """(id) => {
             window.store = new sdk.ConversationStore(id);
             for (const event of heard) store.apply(event);
             hub.addEventListener('event', (event) => store.apply(event.detail));
        }""",
        story.id,
    )
    await story.customer_says("one")
    said = await story.agent_says("two")
    await story.tell("message.receipt", message_id=said, status="read")
    await story.tell("panel.updated", panel="customer", content=None)
    await story.tell("panel.updated", panel="order", content={"id": 7})
    await story.join("eva")
    await page.wait_for_function("store.participants.has('p_eva')")
    folded = """(store) => JSON.stringify([store.messages.map((m) => [m.message_id, m.text, m.status ?? null]),
        [...store.panels], [...store.participants.keys()].sort(), store.cursor])"""
    live_one = await page.evaluate(f"({folded})(store)")
    other = await centre.agent()
    snapshot = await other.expect("conversation.snapshot", story.id)
    fresh = await page.evaluate(
        f"(event) => {{ const s = new sdk.ConversationStore(event.conversation_id); s.apply(event); return ({folded})(s); }}",
        snapshot,
    )
    assert live_one == fresh


@pytest.mark.parametrize("endpoint", ["connector", "agent"])
async def test_a_wrong_role_stops(page: Page, centre: Centre, endpoint: str) -> None:
    """4403 is final: the connection stops and says so, and commands are rejected at once."""
    await page.evaluate(PRELUDE, [endpoint, centre.token("ana")])
    await page.wait_for_function("hub.state === 'stopped'")
    assert await page.evaluate("hub.reason") == "not_permitted"
    assert (await refusal(page, "hub.command('status.set', {status: 'busy'})"))["code"] == "stopped"


async def test_a_bad_token_stops(page: Page) -> None:
    """A token that gets no ticket stops the connection: somebody must sign in again."""
    await page.evaluate(PRELUDE, ["supervisor", "no.such.token"])
    await page.wait_for_function("hub.state === 'stopped'")
    assert await page.evaluate("hub.reason") == "unauthenticated"


async def test_only_signing_out_says_goodbye(page: Page, centre: Centre) -> None:
    """A page that closes its connection otherwise keeps its monitor for the grace."""
    story = await centre.story()
    await connected(page, "supervisor", centre.token("ana"))
    await page.evaluate("hub.command('status.set', {status: 'available'})")
    await page.evaluate(f"hub.command('monitor.start', {{conversation_id: {json.dumps(story.id)}}})")
    await page.evaluate("hub.close()")

    async def held() -> bool:
        return (await centre.row(story.id))["monitor"] is not None

    await eventually(held)
    bo = await centre.supervisor("bo")
    await bo.refused("monitor_held", "monitor.start", conversation_id=story.id)
