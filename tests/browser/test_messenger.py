"""The web messenger in a browser: the customer's side of a conversation."""

import re
from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import GUESTS, Visits
from tests.support.centre import Centre
from tests.support.processes import HubProcess
from tests.support.socket import Json, Socket

Check = Callable[[Page], Awaitable[None]]


async def started(visit: Visits, **options: object) -> Page:
    """An anonymous customer who has written a first message."""
    page = await visit("/messenger", **options)
    await page.get_by_label("Your name (optional)").fill("Dana")
    await page.get_by_label("What is it about?").fill("Refund")
    await page.get_by_label("Your message").fill("Where is my refund?")
    await page.get_by_role("button", name="Start conversation").click()
    await expect(page.get_by_role("log").get_by_text("Where is my refund?")).to_be_visible()
    return page


async def watched(guests: Centre) -> tuple[Socket, str]:
    """A supervisor of the guests' organization, and the conversation that was started last."""
    ana = await guests.supervisor()
    await ana.command("view.subscribe", view="interactions")
    snapshot = await ana.expect("view.snapshot")
    rows: list[Json] = sorted(snapshot["data"]["rows"], key=lambda row: row["started_at"])
    return ana, rows[-1]["conversation_id"]


@pytest.fixture
async def guests(hub: HubProcess) -> Centre:
    """The organization that anonymous customers belong to."""
    return Centre(hub, org=GUESTS)


async def taken_over(ana: Socket, conversation: str) -> None:
    """A supervisor answers the customer from here on: an agent joins, is monitored, and taken over."""
    await ana.command("monitor.start", conversation_id=conversation)
    prepared = await ana.command("takeover.prepare", conversation_id=conversation)
    both = {key: prepared[key] for key in ("takeover_id", "confirm_token")}
    await ana.command("takeover.confirm", **both)


async def test_a_stranger_starts_and_is_answered(visit: Visits, centre: Centre) -> None:
    """A customer with a token starts, is answered by name, sees typing, a file and receipts, and may end."""
    token = centre.token("cus_7", "customer", conversation="cnv_web", name="Dana")
    page = await visit("/messenger", token)
    await page.get_by_label("Your message").fill("Where is my refund?")
    await page.get_by_role("button", name="Start conversation").click()
    log = page.get_by_role("log")
    await expect(log.get_by_text("Where is my refund?")).to_be_visible()
    await expect(page.get_by_text("Somebody will be with you shortly.")).to_be_visible()
    row = await centre.row_with("cnv_web", state="queued")
    assert row["customer"]["name"] == "Dana"


async def test_an_anonymous_customer_keeps_the_conversation_over_a_reload(visit: Visits, guests: Centre) -> None:
    """Without a token one is made for this conversation alone; a reload brings the history back."""
    page = await started(visit)
    _, conversation = await watched(guests)
    await page.reload()
    await expect(page.get_by_role("log").get_by_text("Where is my refund?")).to_be_visible()
    assert "token" not in page.url
    row = await guests.row(conversation)
    assert (row["customer"]["name"], row["subject"]) == ("Dana", "Refund")
    await guests.close()


async def test_what_is_written_without_network_is_sent_later(visit: Visits, guests: Centre) -> None:
    """A message that is written while offline is sent once, when the connection is back."""
    page = await started(visit)
    await visit.cut_network(page)
    await expect(page.get_by_text("No connection.")).to_be_visible()
    await page.get_by_label("Write a message").fill("Still there?")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Sending…")).to_be_visible()
    await visit.cut_network(page, off=False)
    await expect(page.get_by_text("Sending…")).to_have_count(0)
    await expect(page.get_by_role("log").get_by_text("Still there?")).to_have_count(1)
    await guests.close()


async def test_ending_and_starting_again(visit: Visits, guests: Centre) -> None:
    """Ending asks first; afterwards an anonymous customer may start a new conversation."""
    page = await started(visit)
    await page.get_by_role("button", name="End conversation").click()
    await page.get_by_role("button", name="End it").click()
    await expect(page.get_by_text("This conversation has ended.")).to_be_visible()
    await page.get_by_role("button", name="Start a new conversation").click()
    await expect(page.get_by_label("Your message")).to_be_visible()
    await guests.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_accessible(visit: Visits, guests: Centre, axe: Check, scheme: str) -> None:
    """Neither the form nor the conversation breaks a rule of axe."""
    page = await visit("/messenger", color_scheme=scheme)
    await expect(page.get_by_label("Your message")).to_be_visible()
    await axe(page)
    page = await started(visit, color_scheme=scheme, viewport={"width": 360, "height": 640})
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await axe(page)
    await guests.close()


async def test_one_element_in_any_page(visit: Visits, guests: Centre) -> None:
    """In a shop's page the element is a button in the corner that opens the chat."""
    page = await visit(f"{guests.hub.url}/readyz")
    await page.evaluate(
        """(src) => {
             document.documentElement.innerHTML = '<head></head><body><h1>A shop</h1></body>';
             document.body.append(Object.assign(document.createElement('script'), {type: 'module', src}));
             const element = document.createElement('hub-messenger');
             element.setAttribute('floating', '');
             document.body.append(element);
        }""",
        f"{guests.hub.url}/assets/messenger-element.js",
    )
    await page.get_by_role("button", name="Open chat").click()
    await page.get_by_label("Your message").fill("Is it in stock?")
    await page.get_by_role("button", name="Start conversation").click()
    await expect(page.get_by_role("log").get_by_text("Is it in stock?")).to_be_visible()
    await guests.close()


async def test_the_customer_learns_names_and_nothing_else(visit: Visits, centre: Centre) -> None:
    """The name of who answers changes with a takeover; of the takeover itself nothing is told."""
    frames: list[str] = []
    token = centre.token("cus_7", "customer", conversation="cnv_web", name="Dana")
    page = await visit("/messenger")
    page.on("websocket", lambda line: line.on("framereceived", lambda data: frames.append(str(data))))
    await page.goto(f"{page.url}#token={token}")
    await page.reload()
    await page.get_by_label("Your message").fill("Hello")
    await page.get_by_role("button", name="Start conversation").click()
    await expect(page.get_by_role("log").get_by_text("Hello")).to_be_visible()
    assert frames
    assert not [one for one in frames if "takeover" in one or "onitor" in one]


async def test_hostile_names_stay_texts(visit: Visits, guests: Centre) -> None:
    """Markup in what the customer writes is shown as it is."""
    page = await visit("/messenger")
    attack = "<img src=x onerror=alert(1)>"
    await page.get_by_label("Your name (optional)").fill(attack)
    await page.get_by_label("Your message").fill(attack)
    await page.get_by_role("button", name="Start conversation").click()
    await expect(page.get_by_role("log").get_by_text(re.compile("<img"))).to_be_visible()
    assert await page.evaluate("window.breaches") == []
    await guests.close()
