"""The supervisor console in a browser: the whole story of a takeover, and every page by the rules of accessibility."""

import gzip
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import Visits
from tests.support.centre import Centre
from tests.support.socket import eventually

Check = Callable[[Page], Awaitable[None]]


async def console(
    visit: Visits, centre: Centre, sub: str = "ana", status: str | None = "available", **options: Any
) -> Page:
    """A supervisor's console, live, with that status."""
    claims = options.pop("claims", {})
    page = await visit("/", centre.token(sub, **claims), **options)
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    if status:
        await page.get_by_role("combobox", name="Status").select_option(status)
        await expect(page.get_by_role("combobox", name="Status")).to_have_value(status)
    return page


def row(page: Page, name: str = "Dana") -> Locator:
    """The row of a customer."""
    return page.get_by_role("row").filter(has_text=name)


async def watch(page: Page, name: str = "Max Weber") -> None:
    """Monitor that agent from the table; the interaction page is open."""
    await page.get_by_role("button", name=f"Monitor {name}").click()
    await expect(page.get_by_role("log", name="Transcript")).to_be_visible()


async def taken_over(page: Page) -> None:
    """Take the conversation on screen over."""
    await page.get_by_role("button", name="Take over").click()
    await page.get_by_role("button", name="Take over now").click()
    await expect(page.get_by_role("textbox", name="Message to Dana")).to_be_visible()


async def test_the_whole_story(visit: Visits, centre: Centre) -> None:
    """One supervisor watches unseen, another sees the lock; takeover, answer, end, wrap-up, detail and timeline."""
    platform = await centre.connector()
    agent = await centre.agent()
    ana, bo = await console(visit, centre), await console(visit, centre, "bo")
    story = await centre.story(
        queue="billing", panels={"customer": {"tier": "gold"}, "odd_one": {"anyThing": [1, {"x": True}]}}
    )
    customer = await centre.customer(story.id)
    await story.customer_says("Where is my refund?")
    await watch(ana)
    await expect(ana.get_by_text("Where is my refund?").last).to_be_visible()
    held = bo.get_by_role("button", name=re.compile("Monitored by Ana Ortiz since"))
    await expect(held).to_have_attribute("aria-disabled", "true")
    await expect(ana.get_by_role("tab", name="Odd one")).to_be_visible()
    await ana.get_by_role("tab", name="Odd one").click()
    await expect(ana.get_by_text("Any Thing")).to_be_visible()
    seen = len(agent.of(story.id)), len(customer.of(story.id))
    await ana.get_by_role("button", name="Take over").click()
    dialog = ana.get_by_role("dialog")
    await expect(dialog).to_contain_text("Max Weber will be removed")
    await expect(dialog).to_contain_text("1 customer message is unanswered")
    assert (len(agent.of(story.id)), len(customer.of(story.id))) == seen
    await dialog.get_by_role("button", name="Take over now").click()
    await agent.expect("takeover.notified", story.id)
    for name in ("participant.disconnected", "participant.connected"):
        await platform.carry_out(name, story.id)
    box = ana.get_by_role("textbox", name="Message to Dana")
    await box.fill("Ana here. I take care of it.")
    await ana.keyboard.press("Enter")
    await customer.expect("message.created", story.id, text="Ana here. I take care of it.")
    await expect(ana.get_by_role("log")).to_contain_text("Ana here. I take care of it.")
    await expect(box).to_have_value("")
    await ana.get_by_role("button", name="End", exact=True).click()
    await ana.get_by_role("button", name="End conversation").click()
    await ana.get_by_role("radio").first.check()
    await ana.get_by_role("button", name="Submit wrap-up").click()
    await expect(ana.get_by_text("Wrap-up is in.")).to_be_visible()
    await ana.get_by_role("tab", name="Detail").click()
    await expect(ana.get_by_role("img", name="Monitoring")).to_be_visible()
    await ana.get_by_role("tab", name="Timeline").click()
    await ana.get_by_role("img", name=re.compile("You · Monitoring")).hover()
    await expect(ana.get_by_text(re.compile("You · Monitoring · "))).to_be_visible()
    await expect(ana.get_by_role("img", name=re.compile("Takeover · Ana Ortiz"))).to_be_visible()


async def test_the_lock_is_greyed_and_freed_live(visit: Visits, centre: Centre) -> None:
    """What another monitors can't be clicked, and can the moment it is free, without a reload."""
    ana, bo = await console(visit, centre), await console(visit, centre, "bo")
    await centre.story()
    await watch(ana)
    held = bo.get_by_role("button", name=re.compile("Monitored by Ana Ortiz since"))
    await held.click(force=True)
    await expect(bo.get_by_role("grid")).to_be_visible()
    await ana.get_by_role("button", name="Stop monitoring", exact=True).click()
    await expect(bo.get_by_role("button", name="Monitor Max Weber")).to_have_attribute("aria-disabled", "false")
    await watch(bo)


async def test_a_cancelled_takeover_changes_nothing(visit: Visits, centre: Centre) -> None:
    """Cancel and Escape close the dialog; the agent still owns, the supervisor still watches."""
    page = await console(visit, centre)
    story = await centre.story()
    await watch(page)
    await page.get_by_role("button", name="Take over").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.keyboard.press("t")
    await expect(page.get_by_role("button", name="Take over now")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(page.get_by_role("button", name="Stop monitoring", exact=True)).to_be_visible()
    assert (await centre.row(story.id))["owner"] == "p_max"


async def test_monitor_explains_itself_when_not_available(visit: Visits, centre: Centre) -> None:
    """Away, the binocular says what is missing and offers it."""
    page = await console(visit, centre, status="away")
    await centre.story()
    await page.get_by_role("button", name=re.compile("Monitor Max Weber .your status must be Available")).click()
    await expect(page.get_by_role("dialog")).to_contain_text("Your status is Away")
    await page.get_by_role("button", name="Set Available and monitor").click()
    await expect(page.get_by_role("log", name="Transcript")).to_be_visible()
    await expect(page.get_by_role("combobox", name="Status")).to_have_value("available")


async def test_several_agents_are_picked_from_a_list(visit: Visits, centre: Centre) -> None:
    """Where two could be meant, the console asks."""
    page = await console(visit, centre)
    story = await centre.story(agents=("max", "eva"))
    await page.get_by_role("button", name="Monitor: choose one of 2").click()
    await page.get_by_role("dialog").get_by_role("button", name=re.compile("Eva Rossi")).click()
    await expect(page.get_by_role("log", name="Transcript")).to_be_visible()
    row = await centre.row_with(story.id)
    assert row["monitor"]["participant_id"] == "p_eva"


async def test_takeover_is_disabled_with_a_reason(visit: Visits, centre: Centre) -> None:
    """Without the permission, and without a monitor, the button says why it doesn't work."""
    cy = await console(visit, centre, "cy", claims={"permissions": ["view", "monitor", "history"]})
    ana = await console(visit, centre)
    story = await centre.story()
    await watch(cy)
    await expect(cy.get_by_role("button", name="Take over")).to_have_attribute("aria-disabled", "true")
    await expect(cy.get_by_text("You don't have the permission to take over.")).to_be_visible()
    await ana.goto(ana.url.split("#")[0] + f"#/c/{story.id}")
    await expect(ana.get_by_text("Monitor the conversation first.")).to_be_visible()


async def test_several_are_monitored_at_once_and_unread_counted(visit: Visits, centre: Centre) -> None:
    """The roster holds both; what comes in while one looks elsewhere is counted, looking clears it."""
    page = await console(visit, centre)
    one = await centre.story(customer={"id": "c1", "name": "Rosa"})
    await watch(page)
    await page.keyboard.press("1")
    await centre.story(agents=("eva",), customer={"id": "c2", "name": "Tomas"})
    await watch(page, "Eva Rossi")
    roster = page.get_by_role("complementary", name="My roster")
    await expect(roster.get_by_role("listitem")).to_have_count(2)
    await one.customer_says("Hello?")
    await one.customer_says("Still there?")
    await expect(roster.get_by_role("img", name="2 unread messages")).to_be_visible()
    await roster.get_by_role("link", name=re.compile("Rosa")).click()
    await expect(page.get_by_role("log")).to_contain_text("Still there?")
    await expect(roster.get_by_role("img", name=re.compile("unread"))).to_have_count(0)


async def test_queues_and_agents_drill_down(visit: Visits, centre: Centre) -> None:
    """A queue opens its conversations and agents; an agent opens theirs, with the binocular and View details."""
    agent = await centre.agent(queues=["support"])
    await agent.command("status.set", status="on_queue")
    page = await console(visit, centre)
    await centre.story()
    await page.keyboard.press("2")
    await page.get_by_role("link", name=re.compile("Open queue Support", re.I)).click()
    await expect(page.get_by_role("button", name="Monitor Max Weber").first).to_be_visible()
    await page.get_by_label("Show the conversations of Max Weber").click()
    await expect(page.get_by_role("link", name="View details: Dana")).to_have_count(2)
    await page.keyboard.press("3")
    await page.get_by_label("Show the conversations of Max Weber").click()
    await page.get_by_role("link", name="View details: Dana").click()
    await expect(page.get_by_role("tab", name="Detail")).to_have_attribute("aria-selected", "true")


async def test_search_sort_and_columns(visit: Visits, centre: Centre) -> None:
    """`/` goes to the search; words narrow the table, headings sort it, columns come and go."""
    for name in ("Rosa", "Tomas", "Zoe"):
        await centre.story(customer={"id": name, "name": name}, subject=f"About {name}")
    page = await console(visit, centre)
    rows = page.get_by_role("grid").get_by_role("row")
    await expect(rows).to_have_count(4)
    await page.get_by_role("button", name="Customer", exact=True).click()
    await expect(rows.nth(1)).to_contain_text("Rosa")
    await page.get_by_role("button", name="Customer", exact=True).click()
    await expect(rows.nth(1)).to_contain_text("Zoe")
    await page.keyboard.press("/")
    await page.keyboard.type("tom about")
    await expect(rows).to_have_count(2)
    await page.get_by_role("searchbox").fill("")
    await page.get_by_label("Columns", exact=True).click()
    await page.get_by_role("checkbox", name="Subject").uncheck()
    await expect(page.get_by_role("columnheader", name="Subject")).to_have_count(0)


async def test_the_keyboard_is_enough(visit: Visits, centre: Centre) -> None:
    """Arrow keys choose, `m` monitors and stops, `?` helps."""
    page = await console(visit, centre)
    await centre.story()
    await expect(row(page)).to_be_visible()
    await page.get_by_role("grid").focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("m")
    await expect(page.get_by_role("log", name="Transcript")).to_be_visible()
    await page.keyboard.press("m")
    await expect(page.get_by_text("Monitoring stopped.")).to_be_visible()
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()


async def test_wrapup_survives_leaving_the_page(visit: Visits, centre: Centre) -> None:
    """An owed wrap-up stays in the roster and can be given later."""
    page = await console(visit, centre)
    story = await centre.story(queue="billing")
    await watch(page)
    await taken_over(page)
    await story.end()
    await expect(page.get_by_role("heading", name="Wrap up")).to_be_visible()
    await page.get_by_role("link", name="Agents").click()
    await page.get_by_role("complementary", name="My roster").get_by_role("link").click()
    await page.get_by_role("radio").first.check()
    await page.get_by_role("button", name="Submit wrap-up").click()
    await expect(page.get_by_role("heading", name="Wrap up")).to_have_count(0)

    async def ended() -> bool:
        return bool((await centre.row(story.id))["state"] == "ended")

    await eventually(ended)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_accessible(visit: Visits, centre: Centre, axe: Check, scheme: str) -> None:
    """axe finds nothing on any page, in light and dark."""
    await axe(await visit("/", color_scheme=scheme, reduced_motion="reduce"))
    page = await console(visit, centre, color_scheme=scheme, reduced_motion="reduce")
    held = await centre.supervisor("bo")
    other = await centre.story(customer={"id": "x", "name": "Xaver"})
    await other.monitored_by(held)
    file = {"url": "https://files.example/a.pdf", "name": "a.pdf", "mime": "application/pdf"}
    story = await centre.story(queue="billing", panels={"customer": {"tier": "gold"}})
    await story.tell("message.created", message_id="c:1", text="Hello", purpose="customer", attachments=[file])
    await story.agent_says("Hello Dana")
    await expect(page.get_by_role("button", name=re.compile("Monitored by Bo"))).to_be_visible()
    await axe(page)
    await watch(page)
    await expect(page.get_by_role("log").get_by_text("Hello Dana")).to_be_visible()
    await axe(page)
    await page.get_by_role("button", name="Take over").click()
    await expect(page.get_by_role("button", name="Take over now")).to_be_visible()
    await axe(page)
    await page.keyboard.press("Escape")
    await taken_over(page)
    await expect(page.get_by_role("log")).to_contain_text("You took over")
    await axe(page)
    for tab in ("Detail", "Timeline"):
        await page.get_by_role("tab", name=tab).click()
        await expect(page.get_by_role("heading" if tab == "Detail" else "status").first).to_be_visible()
        await axe(page)
    for name in ("Queues", "Agents", "History"):
        await page.get_by_role("navigation").get_by_role("link", name=name).click()
        await expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
        await axe(page)


@pytest.mark.parametrize("locale", ["de", "ar-XB"])
async def test_other_languages_and_narrow_screens(visit: Visits, centre: Centre, axe: Check, locale: str) -> None:
    """German and the right-to-left language fit a telephone's screen without scrolling sideways."""
    page = await console(visit, centre, viewport={"width": 390, "height": 800}, reduced_motion="reduce")
    await centre.story()
    await page.get_by_label("Settings").click()
    await page.get_by_label("Language").select_option(locale)
    assert await page.evaluate("document.documentElement.dir") == ("rtl" if locale == "ar-XB" else "ltr")
    await expect(page.get_by_text("Nachricht" if locale == "de" else "Dana").first).to_be_attached()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await axe(page)


async def test_the_token_leaves_the_address(visit: Visits, centre: Centre) -> None:
    """A token in the fragment is gone at once; signing out ends the session and frees the monitor."""
    page = await console(visit, centre)
    story = await centre.story()
    assert "token" not in page.url
    await watch(page)
    await page.get_by_label("Account: Ana Ortiz").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    await centre.row_with(story.id, monitor=None)


def test_the_whole_first_load_is_small() -> None:
    """Page, script and style stay under 90 KiB, gzipped."""
    dist = Path(__file__).parents[2] / "clients" / "web" / "dist"
    size = sum(len(gzip.compress((dist / f"console.{kind}").read_bytes(), 9)) for kind in ("html", "js", "css"))
    assert size <= 90 * 1024
