"""The web messenger in a browser: the customer's side of a conversation."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.conftest import GUESTS, Visits
from tests.support.centre import Centre
from tests.support.files import uploaded
from tests.support.processes import HubProcess
from tests.support.socket import Json, Socket

Check = Callable[[Page], Awaitable[None]]


async def started(visit: Visits, token: str | None = None, **options: Any) -> Page:
    """A customer (without a token an anonymous one) who has written a first message."""
    page = await visit("/messenger", token, **options)
    await page.get_by_label("What is it about?").fill("Refund")
    if token is None:
        await page.get_by_label("Your name (optional)").fill("Dana")
    await page.get_by_label("Your message").fill("Where is my refund?")
    await page.get_by_role("button", name="Start conversation").click()
    await expect(page.get_by_role("log").get_by_text("Where is my refund?")).to_be_visible()
    return page


def customer(centre: Centre) -> str:
    """The token of a customer whose conversation has not begun."""
    return centre.token("cus_7", "customer", conversation="cnv_web", name="Dana")


async def watched(guests: Centre) -> tuple[Socket, str]:
    """A supervisor of the guests' organization, and the conversation that was started last."""
    ana = await guests.supervisor()
    await ana.command("view.subscribe", view="interactions")
    snapshot = await ana.expect("view.snapshot")
    rows: list[Json] = sorted(snapshot["data"]["rows"], key=lambda row: row["started_at"])
    return ana, rows[-1]["conversation_id"]


@pytest_asyncio.fixture(loop_scope="session")
async def guests(hub: HubProcess) -> AsyncIterator[Centre]:
    """The organization that anonymous customers belong to."""
    own = Centre(hub, org=GUESTS)
    yield own
    await own.close()


async def test_a_customer_with_a_token_starts(visit: Visits, centre: Centre) -> None:
    """A customer whose token has no conversation yet starts it under their own name."""
    page = await started(visit, customer(centre))
    await expect(page.get_by_text("Somebody will be with you shortly.")).to_be_visible()
    row = await centre.row_with("cnv_web", state="queued", subject="Refund")
    assert row["customer"]["name"] == "Dana"


async def test_a_customer_talks_with_an_agent(visit: Visits, centre: Centre) -> None:
    """The customer sees who answers, typing and files, and the agent learns that the answer was read."""
    story, agent = await centre.story(), await centre.agent()
    page = await visit("/messenger", centre.token("cus_7", "customer", conversation=story.id, name="Dana"))
    await page.get_by_label("Write a message").fill("Where is my refund?")
    await page.keyboard.press("Enter")
    await agent.expect("message.created", story.id, text="Where is my refund?")
    await agent.command("typing", conversation_id=story.id, on=True)
    log = page.get_by_role("log")
    await expect(log.get_by_text("Somebody is typing…")).to_be_visible()
    file = await uploaded(centre, centre.token("max", "agent"), story.id, "refund.pdf")
    await agent.command(
        "message.send", conversation_id=story.id, text="Here it is.", client_message_id="m_1", attachments=[file]
    )
    await expect(log.get_by_text("Here it is.")).to_be_visible()
    await expect(log.get_by_role("button", name="Save refund.pdf")).to_be_visible()
    await expect(page.get_by_text("You are talking with Max Weber")).to_be_visible()
    await agent.expect("message.receipt", story.id, status="read")


async def test_an_anonymous_customer_keeps_the_conversation_over_a_reload(visit: Visits, guests: Centre) -> None:
    """Without a token one is made for this conversation alone; a reload brings the history back."""
    page = await started(visit)
    _, conversation = await watched(guests)
    await page.reload()
    await expect(page.get_by_role("log").get_by_text("Where is my refund?")).to_be_visible()
    assert "token" not in page.url
    row = await guests.row(conversation)
    assert (row["customer"]["name"], row["subject"]) == ("Dana", "Refund")


async def test_an_anonymous_customer_comes_back_in_another_tab(visit: Visits, guests: Centre) -> None:
    """The conversation is the browser's, not the tab's: it goes on in a second tab, and after the first was closed."""
    page = await started(visit)
    beside = await visit("/messenger", context=page.context)
    await expect(beside.get_by_role("log").get_by_text("Where is my refund?")).to_be_visible()
    await page.close()
    await beside.get_by_label("Write a message").fill("I am still here.")
    await beside.keyboard.press("Enter")
    later = await visit("/messenger", context=page.context)
    await expect(later.get_by_role("log").get_by_text("I am still here.")).to_be_visible()
    stranger = await visit("/messenger")
    await expect(stranger.get_by_label("Your message")).to_be_visible()


async def test_older_messages_can_be_loaded(visit: Visits, centre: Centre) -> None:
    """A long conversation shows its end after a reload, and the rest when asked, with whose they are."""
    story = await centre.story()
    for number in range(60):
        await (story.customer_says if number % 2 else story.agent_says)(f"Message {number}.")
    page = await visit("/messenger", centre.token("cus_7", "customer", conversation=story.id, name="Dana"))
    log = page.get_by_role("log")
    await expect(log.get_by_text("Message 59.")).to_be_visible()
    await expect(log.get_by_text("Message 0.", exact=True)).to_have_count(0)
    await page.get_by_role("button", name="Load older messages").click()
    first = log.get_by_role("article").first
    await expect(first).to_contain_text("Message 0.")
    await expect(first).to_contain_text("Max Weber")
    await expect(log.get_by_role("article")).to_have_count(60)
    await expect(page.get_by_role("button", name="Load older messages")).to_have_count(0)


async def test_what_is_written_without_network_is_sent_later(visit: Visits, centre: Centre) -> None:
    """A message that is written while offline is sent once, when the connection is back."""
    page = await started(visit, customer(centre))
    await expect(page.get_by_text("Sending…")).to_have_count(0)
    await visit.cut_network(page)
    await expect(page.get_by_text("No connection.")).to_be_visible()
    await page.get_by_label("Write a message").fill("Still there?")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Sending…")).to_be_visible()
    await visit.cut_network(page, off=False)
    await expect(page.get_by_text("Sending…")).to_have_count(0)
    await expect(page.get_by_role("log").get_by_text("Still there?")).to_have_count(1)


async def test_ending_and_starting_again(visit: Visits, guests: Centre) -> None:
    """Ending asks first; afterwards an anonymous customer may start a new conversation."""
    page = await started(visit)
    await page.get_by_role("button", name="End conversation").click()
    await page.get_by_role("button", name="End it").click()
    await expect(page.get_by_text("This conversation has ended.")).to_be_visible()
    await page.get_by_role("button", name="Start a new conversation").click()
    await expect(page.get_by_label("Your message")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_accessible(visit: Visits, centre: Centre, axe: Check, scheme: str) -> None:
    """Neither the form nor the conversation breaks a rule of axe."""
    page = await visit("/messenger", color_scheme=scheme)
    await expect(page.get_by_label("Your message")).to_be_visible()
    await axe(page)
    page = await started(visit, customer(centre), color_scheme=scheme, viewport={"width": 360, "height": 640})
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await axe(page)


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


@pytest.mark.parametrize("late", [False, True], ids=["before the script", "after it"])
async def test_a_page_that_knows_its_customer(visit: Visits, centre: Centre, guests: Centre, late: bool) -> None:
    """`getToken` counts whenever it is set, also where this browser had an anonymous conversation before."""
    story = await centre.story()
    await story.customer_says("My order is late.")
    page = await started(visit)
    await page.goto(f"{guests.hub.url}/readyz")
    await page.evaluate(
        """async ([src, token, late]) => {
             document.documentElement.innerHTML = '<head></head><body><h1>A shop</h1><hub-messenger></hub-messenger></body>';
             const know = () => { document.querySelector('hub-messenger').getToken = async () => token; };
             if (!late) know();
             document.body.append(Object.assign(document.createElement('script'), {type: 'module', src}));
             await customElements.whenDefined('hub-messenger');
             if (late) know();
        }""",
        [
            f"{guests.hub.url}/assets/messenger-element.js",
            centre.token("cus_7", "customer", conversation=story.id, name="Dana"),
            late,
        ],
    )
    await expect(page.get_by_role("log").get_by_text("My order is late.")).to_be_visible()
    await expect(page.get_by_text("Where is my refund?")).to_have_count(0)


async def test_the_customer_learns_names_and_nothing_else(visit: Visits, centre: Centre) -> None:
    """The name of who answers changes with a takeover; of monitor and takeover themselves nothing is told."""
    frames: list[str] = []
    ana, story = await centre.supervisor(), await centre.story()
    page = await visit("/messenger")
    page.on("websocket", lambda line: line.on("framereceived", lambda data: frames.append(str(data))))
    await page.goto(f"{page.url}#token={centre.token('cus_7', 'customer', conversation=story.id, name='Dana')}")
    await page.reload()
    await story.agent_says("Good morning.")
    await expect(page.get_by_text("You are talking with Max Weber")).to_be_visible()
    await story.taken_over_by(ana)
    await expect(page.get_by_text("You are talking with Ana Ortiz")).to_be_visible()
    await ana.command("message.send", conversation_id=story.id, text="I will help.", client_message_id="m_1")
    await expect(page.get_by_role("log").get_by_text("I will help.")).to_be_visible()
    assert frames
    assert not [one for one in frames if "takeover" in one or "onitor" in one]
    for name in ("messenger.js", "messenger-element.js"):
        assert "monitor" not in (await centre.http.get(f"{centre.hub.url}/assets/{name}")).text.lower()


async def test_hostile_texts_stay_texts(visit: Visits, centre: Centre) -> None:
    """Markup in what the customer writes is shown as it is."""
    page = await visit("/messenger", customer(centre))
    attack = "<img src=x onerror=alert(1)>"
    await page.get_by_label("What is it about?").fill(attack)
    await page.get_by_label("Your message").fill(attack)
    await page.get_by_role("button", name="Start conversation").click()
    await expect(page.get_by_role("log").get_by_text(re.compile("<img"))).to_be_visible()
    assert await page.evaluate("window.breaches") == []
