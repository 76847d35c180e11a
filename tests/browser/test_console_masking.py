"""Masks in the console: marked as such, uncovered for a reason by who may, and covered again when the monitor ends."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Visits
from tests.browser.test_console import console, taken_over, watch
from tests.support.centre import Centre
from tests.support.processes import CONFIG, HubProcess
from tests.support.tokens import ALL

Check = Callable[[Page], Awaitable[None]]
CARD = "4111 1111 1111 1111"
REVEALING: dict[str, Any] = {"claims": {"permissions": [*ALL, "reveal"]}}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub that masks cards and mail addresses."""
    process = HubProcess(tmp_path_factory.mktemp("masking"), config=f"{CONFIG}\n[masking]\ncard = true\nemail = true\n")
    process.start()
    yield process
    process.kill()


async def test_a_masked_part_is_marked(visit: Visits, centre: Centre, axe: Check) -> None:
    """Eyes see a placeholder, screen readers hear what it is; without the right there is nothing to uncover it with."""
    story = await centre.story(subject=f"Refund to {CARD}")
    await story.customer_says(f"My card is {CARD}.")
    page = await console(visit, centre)
    await watch(page)
    log = page.get_by_role("log", name="Transcript")
    await expect(log.get_by_text("[card ••••1111]", exact=True)).to_be_visible()
    await expect(log.locator(".masked .sr")).to_have_text("masked: card 1111")
    await story.customer_says("Mail dana@example.com, nothing else")
    await expect(log.get_by_text("[e-mail ••••]", exact=True)).to_be_visible()
    await expect(page.get_by_role("button", name="Reveal")).to_have_count(0)
    assert CARD not in await page.content()
    assert "dana@example.com" not in await page.content()
    await axe(page)


async def test_a_number_for_a_name_uncovers_nothing(visit: Visits, centre: Centre) -> None:
    """A sender whose name is a number is masked in each message; only a message with a mask of its own can be revealed."""
    story = await centre.story(customer={"id": "cus_8", "name": CARD})
    await story.customer_says("Nothing to hide.")
    await story.customer_says(f"My card is {CARD}.")
    page = await console(visit, centre, **REVEALING)
    await watch(page)
    log = page.get_by_role("log", name="Transcript")
    await expect(log.get_by_text("Nothing to hide.")).to_be_visible()
    await expect(page.get_by_role("button", name="Reveal", exact=True)).to_have_count(1)


async def test_a_message_is_revealed_for_a_reason(visit: Visits, centre: Centre, axe: Check) -> None:
    """By keyboard: the dialog asks why; the one message is clear until it is hidden, or the monitor ends."""
    story = await centre.story()
    await story.customer_says(f"My card is {CARD}.")
    await story.customer_says("The other is 378282246310005.")
    page = await console(visit, centre, **REVEALING)
    await watch(page)
    reveal = page.get_by_role("button", name="Reveal", exact=True)
    await expect(reveal).to_have_count(2)
    await reveal.first.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_label("Reason")).to_be_focused()
    await axe(page)
    await dialog.get_by_role("button", name="Reveal the message").click()
    await expect(dialog).to_be_visible()  # without a reason nothing is sent
    await dialog.get_by_label("Reason").fill("They asked us to read it back")
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_hidden()
    log = page.get_by_role("log", name="Transcript")
    await expect(log.get_by_text(f"My card is {CARD}.")).to_be_visible()
    await expect(log.get_by_text("[card ••••0005]", exact=True)).to_be_visible()
    await axe(page)
    await page.get_by_role("button", name="Hide again").click()
    await expect(log.get_by_text("[card ••••1111]", exact=True)).to_be_visible()
    await reveal.first.click()
    await dialog.get_by_label("Reason").fill("Once more")
    await page.keyboard.press("Enter")
    await expect(log.get_by_text(f"My card is {CARD}.")).to_be_visible()
    other = await centre.supervisor("bo")
    await other.command("monitor.release", conversation_id=story.id, reason="shift change")
    await expect(page.get_by_text(CARD)).to_have_count(0)
    await watch(page)
    await expect(log.get_by_text("[card ••••1111]", exact=True)).to_be_visible()
    await expect(page.get_by_text(CARD)).to_have_count(0)


async def test_whoever_takes_over_reads_everything(visit: Visits, centre: Centre) -> None:
    """After the takeover the same messages are there as they were said, and nothing asks for a reason."""
    story = await centre.story()
    await story.customer_says(f"My card is {CARD}.")
    page = await console(visit, centre, **REVEALING)
    await watch(page)
    log = page.get_by_role("log", name="Transcript")
    await expect(log.get_by_text("[card ••••1111]", exact=True)).to_be_visible()
    await taken_over(page)
    await expect(log.get_by_text(f"My card is {CARD}.")).to_be_visible()
    await expect(log.get_by_text("[card ••••1111]", exact=True)).to_have_count(0)
    await expect(page.get_by_role("button", name="Reveal", exact=True)).to_have_count(0)
