"""The same 200 payloads at the agent's desk and in the customer's messenger: what strangers wrote stays text."""

from urllib.parse import quote

from playwright.async_api import Page, expect

from tests.browser.conftest import Visits
from tests.browser.test_console_xss import PAYLOADS, PLACES, TRAP
from tests.support.centre import Centre
from tests.support.socket import Json

MADE = "iframe, script, form[action], base, img:not([src^='/assets/']), a[href^='javascript'], a[href^='data']"


async def unharmed(page: Page, app: str) -> None:
    """Nothing ran, nothing was refused by the policy, and no element was made of what was written."""
    assert await page.evaluate("[window.pwned, window.breaches]") == [0, []]
    assert await page.locator(app).locator(MADE).count() == 0


async def test_two_hundred_payloads_at_the_desk(visit: Visits, centre: Centre) -> None:
    """Names, subjects, messages, files and panels of 40 conversations, each opened."""
    page = await visit("/desk", centre.token("max", "agent"))
    await page.evaluate(TRAP)
    parts = [PAYLOADS[at : at + PLACES] for at in range(0, len(PAYLOADS), PLACES)]
    for name, subject, text, file, panel in parts:
        story = await centre.story(
            customer={"id": "cus_x", "name": name},
            subject=subject,
            panels={"customer": {panel: panel, "list": [panel, {"deep": panel}]}},
        )
        files = [{"url": "https://files.example/?" + quote(file), "name": file, "mime": "text/html"}]
        await story.tell("message.created", message_id="c:1", text=text, purpose="customer", attachments=files)
    rows = page.get_by_role("navigation", name="Conversations").get_by_role("button")
    await expect(rows).to_have_count(len(parts))
    for turn in range(len(parts)):
        await rows.nth(turn).click()
        await expect(page.get_by_role("log")).to_be_visible()
        await unharmed(page, "hub-desk")


async def test_two_hundred_payloads_in_the_messenger(visit: Visits, centre: Centre) -> None:
    """An agent's name, messages and files, as a customer sees them."""
    story = await centre.story("cnv_web", agents=())
    page = await visit("/messenger", centre.token("cus_7", "customer", conversation="cnv_web", name="Dana"))
    await page.evaluate(TRAP)
    parts = [PAYLOADS[at : at + 4] for at in range(0, len(PAYLOADS), 4)]
    for number, (name, text, file, url) in enumerate(parts):
        agent = f"p_{number}"
        await story.tell("participant.connected", participant_id=agent, purpose="agent", user_id=agent, name=name)
        files = [{"url": "https://files.example/?" + quote(url), "name": file, "mime": "text/html"}]
        sent: Json = {"message_id": f"a:{number}", "text": text, "participant_id": agent, "attachments": files}
        await story.tell("message.created", **sent)
        await story.tell("participant.disconnected", participant_id=agent, disconnect_type="client")
    await story.tell("message.created", message_id="last", text="That is all.", purpose="customer")
    await expect(page.get_by_role("log").get_by_text("That is all.")).to_be_visible()
    await unharmed(page, "#app")
