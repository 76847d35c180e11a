"""
The web apps in a real browser, against a real hub.

    hub, centre      as in the end-to-end tests; anonymous customers are allowed and belong to the organization `guests`
    visit            opens a page in a browser profile of its own; fails the test on any error of a page
    axe              fails on any violation of the accessibility rules

A page's problems are what its console calls an error, what it throws, and every breach of its content security policy.
"""

import inspect
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # it has no types
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

from tests.support.centre import Centre
from tests.support.processes import CONFIG, HubProcess
from tests.support.tokens import token

CHROMIUM = os.environ.get("CHROMIUM") or "/usr/bin/chromium"
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
PATIENCE_MS = 30_000  # on a busy machine a page takes seconds for what is a moment elsewhere
expect.set_options(timeout=PATIENCE_MS)
GUESTS = "guests"
# What the browser itself says about a network that a test has cut; everything else is a problem.
CUT = ("net::ERR_INTERNET_DISCONNECTED", "net::ERR_CONNECTION_REFUSED", "WebSocket connection to")
BREACHES = """
window.breaches = [];
document.addEventListener('securitypolicyviolation', (event) => {
  window.breaches.push(event.violatedDirective + ' ' + event.blockedURI + ' ' + event.sample);
  console.error('CSP breach: ' + event.violatedDirective + ' ' + event.blockedURI);
});
"""

Visit = Callable[..., Awaitable[Page]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs Chromium, and is skipped where there is none."""
    here = Path(__file__).parent
    missing = shutil.which(CHROMIUM) is None
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if inspect.iscoroutinefunction(getattr(item, "function", None)):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)  # the browser's own
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"{CHROMIUM} is not there"))


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """One hub that also lets anonymous customers in and has two people of a demonstration."""
    folder = tmp_path_factory.mktemp("hub")
    people = folder / "personas.json"
    people.write_text(
        json.dumps({"personas": [persona("max", "agent", "desk"), persona("ana", "supervisor", "console")]})
    )
    config = f'guests_org = "{GUESTS}"\n' + CONFIG
    process = HubProcess(folder, config=config, environment={"HUB_PERSONAS": str(people)})
    process.start()
    yield process
    process.kill()


def persona(sub: str, role: str, app: str) -> dict[str, str]:
    """One of the demonstration's people."""
    made = token(sub, role, GUESTS, name=sub.capitalize())
    return {"id": sub, "name": sub.capitalize(), "role": role, "app": app, "note": f"The {role}", "token": made}


@pytest_asyncio.fixture(loop_scope="session")
async def centre(hub: HubProcess) -> AsyncIterator[Centre]:
    """A fresh organization on the shared hub."""
    own = Centre(hub)
    yield own
    await own.close()


@dataclass
class Visits:
    """Pages in one browser, each in a profile of its own, and what went wrong in them."""

    browser: Browser
    base: str
    contexts: list[BrowserContext] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    cut: bool = False  # True once a test has cut a network: its noise is no problem

    async def __call__(
        self, path: str, token: str | None = None, *, context: BrowserContext | None = None, **options: Any
    ) -> Page:
        """Open a page, signed in by that token; `options` are those of a Playwright context."""
        if context is None:
            context = await self.browser.new_context(**({"locale": "en-GB"} | options))
            context.set_default_timeout(PATIENCE_MS)
            await context.add_init_script(BREACHES)
            self.contexts.append(context)
        page = await context.new_page()
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.problems.append(f"{path} threw {error}"))
        url = path if path.startswith("http") else self.base + path
        await page.goto(f"{url}#token={token}" if token else url)
        return page

    async def cut_network(self, page: Page, off: bool = True) -> None:
        """Take a page's network away, or give it back."""
        self.cut = True
        await page.context.set_offline(off)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type != "error" or (self.cut and any(one in message.text for one in CUT)):
            return
        # Without a demonstration, or with a token that is over, a page asks and is told no.
        if message.text.startswith("Failed to load resource") and "/v1/" in message.location.get("url", ""):
            return
        self.problems.append(f"{message.text} {message.location}")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for all tests of a process; each test has profiles of its own in it."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visit(hub: HubProcess, chromium: Browser) -> AsyncIterator[Visits]:
    """Opens pages; fails the test where one of them had a problem."""
    visits = Visits(chromium, hub.url)
    yield visits
    for context in visits.contexts:
        await context.close()
    assert not visits.problems, "\n".join(visits.problems[:10])


@pytest.fixture
def axe() -> Callable[[Page], Awaitable[None]]:
    """Checks a page by the rules of axe-core; 0 violations are allowed."""

    async def check(page: Page) -> None:
        found = await Axe().run(page)
        said = [
            f"{one['id']}: {node['html'][:160]} {node['failureSummary']}"
            for one in found.response["violations"]
            for node in one["nodes"]
        ]
        assert not said, "\n".join(said)

    return check
