"""The agent desk in a browser: conversations, drafts, the takeover alert, wrap-up, and what it never shows."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Visits
from tests.support.centre import Centre, Story
from tests.support.socket import eventually

Check = Callable[[Page], Awaitable[None]]


async def desk(visit: Visits, centre: Centre, sub: str = "max", **options: Any) -> Page:
    """The desk of an agent, connected."""
    page = await visit("/desk", centre.token(sub, "agent"), **options)
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    return page


async def opened(page: Page, story: Story) -> None:
    """Choose the only conversation of the list."""
    await page.get_by_role("navigation", name="Conversations").get_by_role("button", name=re.compile("Dana")).click()
    await expect(page.get_by_role("heading", name="Dana")).to_be_visible()


async def test_a_conversation_is_read_and_answered(visit: Visits, centre: Centre) -> None:
    """The agent sees messages, files, panels and typing, answers, and the platform gets the answer."""
    platform = await centre.connector()
    page = await desk(visit, centre)
    await expect(page.get_by_role("heading", name="No conversations")).to_be_visible()
    story = await centre.story(panels={"customer": {"tier": "gold", "open_orders": 2}})
    file = {"url": "https://files.example/invoice.pdf", "name": "invoice.pdf", "mime": "application/pdf"}
    await story.tell(
        "message.created", message_id="c:1", text="Where is my refund?", purpose="customer", attachments=[file]
    )
    await opened(page, story)
    log = page.get_by_role("log", name="Messages")
    await expect(log.get_by_text("Where is my refund?")).to_be_visible()
    link = log.get_by_role("link", name="invoice.pdf")
    assert await link.get_attribute("rel") == "noopener noreferrer nofollow"
    await expect(page.get_by_role("complementary", name="Details")).to_contain_text("gold")
    await story.tell("typing", on=True, purpose="customer")
    await expect(log.get_by_text("Dana is typing…")).to_be_visible()
    await page.get_by_role("textbox", name="Message to Dana").fill("I am looking into it.")
    await page.keyboard.press("Enter")
    action = await platform.carry_out("outbound.message", story.id)
    assert action["data"]["text"] == "I am looking into it."
    await expect(log.get_by_text("I am looking into it.")).to_be_visible()
    await expect(log.get_by_text("Sent", exact=True)).to_be_visible()
    await expect(page.get_by_role("textbox", name="Message to Dana")).to_have_value("")


async def test_a_takeover_cannot_be_missed(visit: Visits, centre: Centre) -> None:
    """The alert covers everything, gives the unsent text back, survives Escape, and goes by acknowledging it alone."""
    ana = await centre.supervisor()
    page = await desk(visit, centre)
    story = await centre.story(queue="billing")
    await story.customer_says("Hello?")
    await opened(page, story)
    await page.get_by_role("textbox", name="Message to Dana").fill("I was about to say")
    await draft_kept(centre, "I was about to say")
    await story.taken_over_by(ana)
    alert = page.get_by_role("alert").filter(has_text="Ana Ortiz has taken over this conversation")
    await expect(alert).to_be_visible()
    dialog = page.get_by_role("dialog", name="Ana Ortiz has taken over this conversation")
    await expect(dialog.get_by_text("I was about to say")).to_be_visible()
    await expect(dialog.get_by_text("Wrap-up is required.")).to_be_visible()
    assert "Ana Ortiz has taken over" in await page.title()
    for _ in range(3):
        await page.keyboard.press("Escape")
    await expect(dialog).to_be_visible()
    await page.reload()
    await expect(dialog).to_be_visible()
    await dialog.get_by_role("button", name="I have seen this").click()
    await expect(dialog).to_have_count(0)
    await page.reload()
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    await expect(page.get_by_role("navigation", name="Conversations").get_by_text("Wrap-up")).to_be_visible()
    await expect(dialog).to_have_count(0)


async def draft_kept(centre: Centre, text: str) -> None:
    """Wait until the hub has the draft: a new session of the agent gets it with the snapshot."""

    async def kept() -> bool:
        other = await centre.agent()
        snapshot = await other.expect("conversation.snapshot")
        await other.close()
        return bool(snapshot["data"]["draft"] == text)

    await eventually(kept, wanted="the draft at the hub")


async def test_a_takeover_sounds_and_shows_on_the_desktop(visit: Visits, centre: Centre) -> None:
    """The alert makes a sound, again until it is acknowledged, and a desktop notice where that is allowed."""
    ana, story = await centre.supervisor(), await centre.story()
    page = await visit("/desk")
    await page.context.grant_permissions(["notifications"])
    await page.add_init_script(
        """window.tones = 0; window.shown = [];
           const start = OscillatorNode.prototype.start;
           OscillatorNode.prototype.start = function (...given) { window.tones++; return start.apply(this, given); };
           window.Notification = class {
             static permission = 'granted';
             constructor(title, options) { window.shown.push([title, options.body, options.requireInteraction]); }
           };"""
    )
    await page.goto(f"{page.url}#token={centre.token('max', 'agent')}")
    await page.reload()
    await opened(page, story)
    await story.taken_over_by(ana)

    async def sounded_twice() -> bool:
        return bool(await page.evaluate("window.tones") >= 6)

    await eventually(sounded_twice, timeout=10.0, wanted="three tones, twice", pause=0.2)
    assert await page.evaluate("window.shown") == [["Ana Ortiz has taken over", "Dana · Refund", True]]
    await page.get_by_role("button", name="I have seen this").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert await page.title() == "Agent desk"


async def test_wrapup_is_submitted(visit: Visits, centre: Centre) -> None:
    """After the end a mandatory wrap-up asks for one of the queue's codes and is gone once it is given."""
    page = await desk(visit, centre)
    story = await centre.story(queue="billing")
    await opened(page, story)
    await page.get_by_role("button", name="End conversation").click()
    await (
        page.get_by_role("dialog", name="End this conversation?").get_by_role("button", name="End conversation").click()
    )
    form = page.get_by_role("form", name="Wrap-up")
    await form.get_by_label("Outcome").select_option("resolved")
    await form.get_by_label("Notes").fill("All fine.")
    await form.get_by_role("button", name="Submit wrap-up").click()
    await expect(page.get_by_text("Wrap-up submitted.")).to_be_visible()
    await expect(page.get_by_role("heading", name="No conversations")).to_be_visible()
    assert (await centre.detail(story.id))["wrapups"][0]["code"] == "resolved"


async def test_wrapup_counts_down(visit: Visits, centre: Centre) -> None:
    """A wrap-up with a time limit shows how long is left and ends by itself."""
    page = await desk(visit, centre)
    story = await centre.story(queue="quick")
    await opened(page, story)
    await story.end()
    await expect(page.get_by_role("timer")).to_contain_text("left")
    await expect(page.get_by_text("The time for this wrap-up is over.")).to_be_visible()


async def test_reload_and_network_loss_lose_nothing(visit: Visits, centre: Centre) -> None:
    """After a lost network what was missed arrives, and after a reload everything is there again, the draft too."""
    page = await desk(visit, centre)
    story = await centre.story()
    await opened(page, story)
    log = page.get_by_role("log", name="Messages")
    await visit.cut_network(page)
    await expect(page.get_by_role("status").filter(has_text="Offline since")).to_be_visible()
    await story.customer_says("Are you there?")
    await visit.cut_network(page, off=False)
    await expect(log.get_by_text("Are you there?")).to_be_visible()
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    await page.get_by_role("textbox", name="Message to Dana").fill("Half a sent")
    await draft_kept(centre, "Half a sent")
    await page.reload()
    await opened(page, story)
    await expect(log.get_by_text("Are you there?")).to_be_visible()
    await expect(page.get_by_role("textbox", name="Message to Dana")).to_have_value("Half a sent")


async def test_nothing_tells_of_a_monitor(visit: Visits, centre: Centre) -> None:
    """Neither the files of the desk nor what it gets nor what it shows differs while a supervisor watches."""
    frames: list[str] = []
    page = await visit("/desk")
    page.on("websocket", lambda line: line.on("framereceived", lambda data: frames.append(str(data))))
    await page.goto(page.url + f"#token={centre.token('max', 'agent')}")
    await page.reload()
    ana = await centre.supervisor()
    story = await centre.story()
    await story.customer_says("Hello")
    await opened(page, story)
    before = await page.locator("hub-desk").inner_text()
    started = await story.monitored_by(ana)
    await story.tell("panel.updated", panel="fence", content={"mark": "one"})
    await expect(page.get_by_role("complementary", name="Details")).to_contain_text("one")
    assert "onitor" not in await page.content()
    assert "Ana" not in await page.locator("hub-desk").inner_text()
    assert before.count("Dana") == (await page.locator("hub-desk").inner_text()).count("Dana")
    assert frames
    assert not [one for one in frames if "onitor" in one or started["data"]["monitor_id"] in one]
    for name in ("desk.js", "desk.css", "desk.html", "alert.js"):
        assert "monitor" not in (await centre.http.get(f"{centre.hub.url}/assets/{name}")).text.lower()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_accessible(visit: Visits, centre: Centre, axe: Check, scheme: str) -> None:
    """No page of the desk breaks a rule of axe: sign-in, conversation, alert."""
    page = await visit("/desk", color_scheme=scheme)
    await expect(page.get_by_role("heading", name="Agent desk")).to_be_visible()
    await axe(page)
    ana = await centre.supervisor()
    page = await desk(visit, centre, color_scheme=scheme)
    story = await centre.story(queue="billing", panels={"customer": {"tier": "gold", "site": "https://shop.example/"}})
    await story.customer_says("Hello?")
    await story.agent_says("Good morning.")
    await opened(page, story)
    await axe(page)
    await story.taken_over_by(ana)
    await expect(page.get_by_role("button", name="I have seen this")).to_be_visible()
    await axe(page)
    await page.get_by_role("button", name="I have seen this").click()
    await expect(page.get_by_role("form", name="Wrap-up")).to_be_visible()
    await axe(page)


async def test_the_alert_works_in_any_desktop(visit: Visits, centre: Centre) -> None:
    """One script tag puts the takeover alert into another desktop."""
    ana = await centre.supervisor()
    story = await centre.story()
    host = f"{centre.hub.url}/readyz"  # any document of an allowed origin that isn't ours to style
    page = await visit(host)
    script = f"{centre.hub.url}/assets/alert.js"
    await page.evaluate(
        """([src, token]) => {
             document.documentElement.innerHTML = '<head></head><body><h1>Another desktop</h1></body>';
             const script = Object.assign(document.createElement('script'), {type: 'module', src});
             script.dataset.token = token;
             document.body.append(script);
        }""",
        [script, centre.token("max", "agent")],
    )
    await story.taken_over_by(ana)
    dialog = page.get_by_role("dialog", name="Ana Ortiz has taken over this conversation")
    await dialog.get_by_role("button", name="I have seen this").click()
    await expect(dialog).to_have_count(0)


async def test_hostile_texts_stay_texts(visit: Visits, centre: Centre) -> None:
    """Markup in a name, a subject, a message, a file or a panel is shown as it is and never runs."""
    attack = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    page = await desk(visit, centre)
    story = await centre.story(
        customer={"id": "cus_7", "name": attack}, subject=attack, panels={attack[:60]: {attack: attack}}
    )
    file = {"url": "https://files.example/%22onmouseover=x", "name": attack, "mime": "text/html"}
    await story.tell("message.created", message_id="c:1", text=attack, purpose="customer", attachments=[file])
    await page.get_by_role("navigation", name="Conversations").get_by_role("button").first.click()
    await expect(page.get_by_role("log").get_by_text(attack).first).to_be_visible()
    assert await page.evaluate("window.hacked") is None
    assert await page.locator("hub-desk img:not([src^='/assets/'])").count() == 0
    assert await page.evaluate("window.breaches") == []


async def test_a_narrow_screen_shows_one_thing_at_a_time(visit: Visits, centre: Centre, axe: Check) -> None:
    """On a phone the list and the conversation take turns, and nothing sticks out sideways."""
    page = await desk(visit, centre, viewport={"width": 360, "height": 640})
    story = await centre.story()
    await opened(page, story)
    await expect(page.get_by_role("navigation", name="Conversations")).to_be_hidden()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await axe(page)
    await page.get_by_role("button", name="Back to the list").click()
    await expect(page.get_by_role("navigation", name="Conversations")).to_be_visible()


async def test_the_desk_speaks_german_and_right_to_left(visit: Visits, centre: Centre) -> None:
    """The browser's language decides, another can be chosen, and the mirrored one mirrors."""
    page = await visit("/desk", centre.token("max", "agent"), locale="de-DE")
    await expect(page.get_by_role("heading", name="Keine Gespräche")).to_be_visible()
    await page.get_by_role("combobox", name="Sprache").select_option("ar-XB")
    await expect(page.locator("html")).to_have_attribute("dir", "rtl")


async def test_signing_in_and_out(visit: Visits, centre: Centre) -> None:
    """A pasted token signs in, a wrong one is explained, the address never keeps one, and signing out forgets it."""
    page = await visit("/desk")
    await page.get_by_label("Identity token").fill(centre.token("ana"))
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("supervisor")
    await page.get_by_label("Identity token").fill(centre.token("max", "agent"))
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    assert "token" not in page.url
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Identity token")).to_be_visible()
    assert await page.evaluate("sessionStorage.length") == 0
