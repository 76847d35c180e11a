"""Files in the three pages: chosen, refused, sent, saved; and what became of messages, on every screen."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import FilePayload, Locator, Page, expect

from tests.browser.conftest import Visits
from tests.browser.test_console import console, taken_over, watch
from tests.browser.test_desk import desk, opened
from tests.support.centre import Centre, Story
from tests.support.files import PDF, png, uploaded
from tests.support.socket import Json, eventually

Check = Callable[[Page], Awaitable[None]]


async def messenger(visit: Visits, centre: Centre, story: Story, **options: Any) -> Page:
    """The messenger of the story's customer."""
    page = await visit("/messenger", centre.token("cus_7", "customer", conversation=story.id, name="Dana"), **options)
    await expect(page.get_by_label("Write a message")).to_be_visible()
    return page


async def attach(page: Page, name: str, content: bytes | Path = PDF, mime: str = "application/pdf") -> None:
    """Choose a file in the picker: one with that content, or one that is there."""
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Attach files").click()
    file = content if isinstance(content, Path) else FilePayload(name=name, mimeType=mime, buffer=content)
    await (await chooser.value).set_files(file)


async def saved(page: Page, where: Locator, name: str) -> bytes:
    """Save a file by its button; what lies in the folder of downloads then."""
    async with page.expect_download() as download:
        await where.get_by_role("button", name=f"Save {name}").click()
    done = await download.value
    assert done.suggested_filename == name
    return Path(await done.path()).read_bytes()


async def test_everybody_sends_a_file_and_saves_the_others(visit: Visits, centre: Centre) -> None:
    """Customer, agent, then the supervisor who took over each send one; each page saves what it shows, also after a reload."""
    story = await centre.story()
    customer = await messenger(visit, centre, story)
    agent = await desk(visit, centre)
    await opened(agent, story)
    await attach(customer, "Foto «1».png", png(), "image/png")
    await customer.get_by_role("button", name="Send").click()
    assert await saved(agent, agent.get_by_role("log"), "Foto «1».png") == png()
    await agent.get_by_role("textbox", name="Message to Dana").fill("The form, please.")
    await attach(agent, "form.pdf")
    await agent.get_by_role("button", name="Send", exact=True).click()
    await expect(customer.get_by_role("log").get_by_text("The form, please.")).to_be_visible()
    supervisor = await console(visit, centre)
    await watch(supervisor)
    assert await saved(supervisor, supervisor.get_by_role("log"), "form.pdf") == PDF
    await taken_over(supervisor)
    await attach(supervisor, "offer.pdf", PDF + b"% offer\n")
    await supervisor.get_by_role("button", name="Send", exact=True).click()
    await expect(supervisor.get_by_role("log").get_by_role("button", name="Save offer.pdf")).to_be_visible()
    await customer.reload()
    for name, content in (("offer.pdf", PDF + b"% offer\n"), ("Foto «1».png", png()), ("form.pdf", PDF)):
        assert await saved(customer, customer.get_by_role("log"), name) == content
    assert await customer.evaluate("window.breaches") == []


async def test_a_tab_beside_shows_what_the_other_sent(visit: Visits, centre: Centre) -> None:
    """A second tab of the customer has the file without a reload, and its own choice of files."""
    story = await centre.story()
    first = await messenger(visit, centre, story)
    second = await messenger(visit, centre, story)
    await attach(second, "unsent.pdf")
    await attach(first, "a.pdf")
    await first.get_by_role("button", name="Send").click()
    await expect(second.get_by_role("log").get_by_role("button", name="Save a.pdf")).to_be_visible()
    await expect(second.get_by_role("list", name="Files to send").get_by_text("unsent.pdf")).to_be_visible()


async def test_refused_files_say_why(visit: Visits, centre: Centre, tmp_path: Path) -> None:
    """Hostile, strange and large files are named with the reason, each; without them the message goes."""
    story = await centre.story()
    page = await messenger(visit, centre, story)
    large = tmp_path / "big.txt"
    large.write_bytes(b"x" * 20_971_521)
    refused: list[tuple[str, bytes | Path, str, str]] = [
        ("page.html", b"<script>alert(1)</script>", "text/html", "This kind of file is not taken. Possible are: .*pdf"),
        ("photo.exe.pdf", PDF, "application/pdf", "This name can’t be used: .*second ending"),
        ("a\u202efdp.png", png(), "image/png", "This name can’t be used: .*direction characters"),
        ("a.pdf", b"<html>", "application/pdf", "content is not what its name says"),
        ("big.txt", large, "text/plain", "too large: at most 21 MB"),
    ]
    alert = page.get_by_role("alert")
    for number, (name, content, mime, said) in enumerate(refused):
        await attach(page, name, content, mime)
        await expect(alert.nth(number)).to_have_text(re.compile(said))
    send = page.get_by_role("button", name="Send")
    await expect(send).to_be_disabled()
    await page.get_by_label("Write a message").fill("Without them, then.")
    await send.click()
    await expect(page.get_by_role("log").get_by_text("Without them, then.")).to_be_visible()
    await expect(alert).to_have_count(0)
    assert (await centre.messages(story.id))[-1]["attachments"] == []


async def test_a_file_is_chosen_and_taken_back_by_keyboard(visit: Visits, centre: Centre) -> None:
    """From the text the button is one step back; a chosen file's cross takes it away; it was never said."""
    story = await centre.story()
    page = await desk(visit, centre)
    await opened(page, story)
    await page.get_by_role("textbox", name="Message to Dana").focus()
    await page.keyboard.press("Shift+Tab")
    await expect(page.get_by_role("button", name="Attach files")).to_be_focused()
    async with page.expect_file_chooser() as chooser:
        await page.keyboard.press("Enter")
    await (await chooser.value).set_files(FilePayload(name="a.pdf", mimeType="application/pdf", buffer=PDF))
    await expect(page.get_by_text("ready")).to_be_attached()
    await page.get_by_role("button", name="Remove a.pdf").press("Enter")
    await expect(page.get_by_role("list", name="Files to send")).to_have_count(0)
    assert await centre.messages(story.id) == []


async def test_a_file_is_dropped_on_the_composer(visit: Visits, centre: Centre) -> None:
    """What is dropped on where one writes is attached as if it had been chosen."""
    story = await centre.story()
    page = await messenger(visit, centre, story)
    data = await page.evaluate_handle(
        """() => { const data = new DataTransfer();
                   data.items.add(new File(['one line'], 'note.txt', {type: 'text/plain'})); return data; }"""
    )
    await page.get_by_label("Write a message").dispatch_event("drop", {"dataTransfer": data})
    await page.get_by_role("button", name="Send").click()
    assert await saved(page, page.get_by_role("log"), "note.txt") == b"one line"


async def test_a_file_that_is_gone(visit: Visits, centre: Centre) -> None:
    """A file whose bytes were removed is said to be gone, in words; a platform's file stays a link to where it is."""
    story, agent = await centre.story(), await centre.agent()
    file = await uploaded(centre, centre.token("max", "agent"), story.id, "own.pdf")
    await agent.command("message.send", conversation_id=story.id, text="", client_message_id="d_1", attachments=[file])
    foreign = [{"url": f"https://hub.example{file['url']}", "name": "theirs.pdf", "mime": "application/pdf"}]
    unsafe = [{"url": f"http://hub.example{file['url']}", "name": "unsafe.pdf", "mime": "application/pdf"}]
    said: Json = {"message_id": "a:1", "text": "See", "participant_id": "p_max", "attachments": foreign + unsafe}
    await story.tell("message.created", **said)
    for kept in (centre.hub.data / "files").rglob(file["url"].split("/")[3]):
        kept.unlink()
    page = await messenger(visit, centre, story)
    log = page.get_by_role("log")
    link = log.get_by_role("link", name="theirs.pdf")
    assert await link.get_attribute("href") == foreign[0]["url"]
    assert await link.get_attribute("rel") == "noopener noreferrer nofollow"
    await expect(log.get_by_text("unsafe.pdf")).to_be_visible()
    await expect(log.get_by_role("link")).to_have_count(1)
    await log.get_by_role("button", name="Save own.pdf").click()
    await expect(page.get_by_role("alert")).to_have_text("The file own.pdf is not available any more.")


async def test_a_picture_is_shown(visit: Visits, centre: Centre) -> None:
    """A picture stands beside its name on each page, within the page's policy; what can't be had is a name alone."""
    story = await centre.story()
    pages = [await messenger(visit, centre, story), await desk(visit, centre), await console(visit, centre)]
    await opened(pages[1], story)
    await watch(pages[2])
    bearer = centre.token("max", "agent")
    kept = [await uploaded(centre, bearer, story.id, name, png(40, 30)) for name in ("there.png", "gone.png")]
    for file in (centre.hub.data / "files").rglob(kept[1]["url"].split("/")[3]):
        file.unlink()
    agent = await centre.agent()
    await agent.command("message.send", conversation_id=story.id, text="", client_message_id="d_1", attachments=kept)
    for page in pages:
        there, gone = (page.get_by_role("button", name=f"Save {name}") for name in ("there.png", "gone.png"))
        await expect(there.locator("img")).to_have_js_property("naturalWidth", 40)
        await expect(gone).to_be_visible()
        await expect(gone.locator("img")).to_have_count(0)
        assert await page.evaluate("window.breaches") == []


async def test_what_became_of_a_message(visit: Visits, centre: Centre) -> None:
    """
    Agent and monitor see each state in words, a late report takes nothing back, and a reload shows the same.

    Not confirmed, sent, delivered, read; another one failed, with the platform's reason.
    """
    platform, story = await centre.connector(), await centre.story()
    agent, supervisor = await desk(visit, centre), await console(visit, centre)
    await opened(agent, story)
    await watch(supervisor)
    pages = (agent, supervisor)

    async def shown(state: str, count: int = 1) -> None:
        for page in pages:
            await expect(page.get_by_role("log").get_by_text(state, exact=True)).to_have_count(count)

    async def write(text: str) -> None:
        await agent.get_by_role("textbox", name="Message to Dana").fill(text)
        await agent.keyboard.press("Enter")

    await write("First")
    await shown("Not confirmed yet")
    action = await platform.carry_out("outbound.message", story.id, text="First")
    await shown("Sent")
    for status in ("delivered", "sent"):
        await platform.report(action, status)
    await shown("Delivered")
    await write("Second")
    second = await platform.action("outbound.message", story.id, text="Second")
    await platform.report(second, "failed", reason="the number is not in service")
    await platform.report(action, "read")
    for _ in range(2):
        await shown("Read")
        await shown("Delivered", 0)
        await shown("Sent", 0)
        await shown("Not confirmed yet", 0)
        await shown("Not delivered: the number is not in service")
        await agent.reload()
        await opened(agent, story)
        await supervisor.reload()
    statuses = {one["text"]: (one.get("status"), one.get("reason")) for one in await centre.messages(story.id)}
    assert statuses == {"First": ("read", None), "Second": ("failed", "the number is not in service")}


async def test_an_owning_supervisors_message_is_shown_at_once(visit: Visits, centre: Centre) -> None:
    """It stands there as being sent while the network is away, and once when it is back."""
    await centre.story()
    page = await console(visit, centre)
    await watch(page)
    await taken_over(page)
    await visit.cut_network(page)
    await page.get_by_role("textbox", name="Message to Dana").fill("I will help.")
    await page.keyboard.press("Enter")
    log = page.get_by_role("log")
    await expect(log.get_by_text("Sending…")).to_be_visible()
    await visit.cut_network(page, off=False)
    await expect(log.get_by_text("Not confirmed yet")).to_be_visible()
    await expect(log.get_by_text("Sending…")).to_have_count(0)
    await expect(log.get_by_text("I will help.")).to_have_count(1)


async def test_accessible(visit: Visits, centre: Centre, axe: Check) -> None:
    """A ready and a refused file, a sent one and every state break no rule of axe, on each page, light and dark."""
    platform, story = await centre.connector(), await centre.story()
    options: dict[str, Any] = {"reduced_motion": "reduce"}
    customer = await messenger(visit, centre, story, viewport={"width": 360, "height": 640}, **options)
    agent, supervisor = await desk(visit, centre, **options), await console(visit, centre, **options)
    await opened(agent, story)
    for number, status in enumerate(("failed", "delivered", "read", "sent")):
        await agent.get_by_role("textbox", name="Message to Dana").fill(f"Message {number}")
        if not number:
            await attach(agent, "form.pdf")
        await expect(agent.get_by_role("button", name="Send", exact=True)).to_be_enabled()
        await agent.keyboard.press("Control+End")
        await agent.get_by_role("textbox", name="Message to Dana").press("Enter")
        action = await platform.action("outbound.message", story.id, text=f"Message {number}")
        await platform.report(action, status)
    await watch(supervisor)
    await taken_over(supervisor)
    for page in (customer, supervisor):
        await attach(page, "good.pdf")
        await attach(page, "bad.html", b"<html>", "text/html")
        await expect(page.get_by_role("alert").get_by_text("This kind of file")).to_be_visible()
    for page in (customer, agent, supervisor):
        await expect(page.get_by_role("button", name="Save form.pdf")).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
        for scheme in schemes:
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            await axe(page)


async def test_names_and_kinds_are_whole_at_a_common_width(visit: Visits, centre: Centre) -> None:
    """At 1280 pixels neither the wallboard's headings nor a picture's kind is cut off."""
    story = await centre.story()
    url = "https://files.example.org/1.png"
    look = [{"url": url, "name": "1.png", "mime": "image/png"}]
    await story.tell("message.created", message_id="m_look", text="Look", purpose="customer", attachments=look)
    page = await console(visit, centre, viewport={"width": 1280, "height": 800})
    await expect(page.locator(".tile-name")).to_have_count(5)

    cut = "all => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent.trim())"

    async def whole(what: Locator) -> bool:
        return not await what.evaluate_all(cut)

    await eventually(lambda: whole(page.locator(".tile")), wanted="whole headings")
    await watch(page)
    kind = page.get_by_role("log").locator(".file .muted")
    await expect(kind).to_have_text("image/png")
    await eventually(lambda: whole(kind), wanted="a whole kind")


async def test_a_refusal_is_seen_below_others(visit: Visits, centre: Centre) -> None:
    """On a phone, where the tray has more files than fit, why the last one is refused is on the screen."""
    page = await messenger(visit, centre, await centre.story(), viewport={"width": 375, "height": 720})
    for number in range(6):
        await attach(page, f"page-{number}.html", b"<html>", "text/html")
        refusal = page.get_by_role("alert").nth(number)
        await expect(refusal).to_be_in_viewport(ratio=0.5)
        box = await page.get_by_role("list", name="Files").last.bounding_box()
        there = await refusal.bounding_box()
        assert box is not None
        assert there is not None
        assert there["y"] < box["y"] + box["height"]
