"""Signing in with a real OpenID provider in a real browser: the console and the desk, signing out, and going back."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import Visits
from tests.support.centre import Centre
from tests.support.identity import ORG, sign_in_config
from tests.support.processes import HubProcess, free_port

PEOPLE = [
    {"sub": "ana", "name": "Ana Ortiz", "groups": ["staff", "cc-supervisors"]},
    {"sub": "max", "name": "Max Weber", "groups": ["cc-agents"]},
    {"sub": "guest", "name": "A Guest", "groups": ["staff"]},
]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An OpenID provider of its own process, of another site than the hub, so that its way back is a foreign one."""
    port = free_port()
    address = f"http://localhost:{port}"
    people = [part for one in PEOPLE for part in ("--user-claims", json.dumps(one))]
    line = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-H", "localhost", "-p", str(port), *people]
    environment = os.environ | {"AUTHLIB_INSECURE_TRANSPORT": "1"}
    with (tmp_path_factory.mktemp("provider") / "provider.log").open("wb") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log, env=environment)
    try:
        ends = time.monotonic() + 20
        while not _answers(address):
            assert process.poll() is None, "the provider ended"
            assert time.monotonic() < ends, "the provider did not start"
            time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


def _answers(address: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{address}/.well-known/openid-configuration", trust_env=False).status_code == 200
    return False


@pytest.fixture(scope="module")
def office(issuer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub whose people sign in with that provider."""
    hub = HubProcess(tmp_path_factory.mktemp("office"), environment={"HUB_SIGN_IN_SECRET": "any-secret"})
    hub.config.write_text(sign_in_config(issuer, hub.url, keys="jwks"))
    hub.start()
    yield hub
    hub.kill()


@pytest_asyncio.fixture(loop_scope="session")
async def acme(office: HubProcess) -> AsyncIterator[Centre]:
    """The provider's organization on that hub."""
    own = Centre(office, org=ORG)
    yield own
    await own.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visiting(office: HubProcess, chromium: Browser) -> AsyncIterator[Visits]:
    """Opens pages of that hub; fails the test where one of them had a problem."""
    visits = Visits(chromium, office.url)
    yield visits
    for context in visits.contexts:
        await context.close()
    assert not visits.problems, "\n".join(visits.problems[:10])


async def sign_in(page: Page, sub: str) -> None:
    """From the hub's sign-in page through the provider's, as that person."""
    await page.context.route(
        "https://cdn.jsdelivr.net/**", lambda route: route.fulfill(body="", content_type="text/css")
    )
    await page.get_by_role("link", name="Sign in with your organization").click()
    await page.wait_for_url("http://localhost:*/oauth2/authorize?*")
    await page.get_by_role("button", name=sub, exact=True).click()


async def test_signing_in_and_out(visiting: Visits, acme: Centre, axe: Callable[[Page], Awaitable[None]]) -> None:
    """The console shows the live view after signing in, also after a reload; after signing out nothing, nor by going back."""
    await acme.story()
    page = await visiting("/")
    await expect(page.get_by_role("link", name="Sign in with your organization")).to_be_visible()
    await axe(page)
    await sign_in(page, "ana")
    await page.wait_for_url(acme.hub.url + "/**")
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    await expect(page.get_by_role("row").filter(has_text="Dana")).to_be_visible()
    await page.clock.install()
    await page.reload()
    await expect(page.get_by_role("row").filter(has_text="Dana")).to_be_visible()
    async with page.expect_response(lambda answer: answer.url.endswith("/v1/session")) as touched:
        await page.clock.fast_forward(61_000)  # an open page says so each minute
    assert (await (await touched.value).json())["user"]["id"] == "ana"
    kept = await page.evaluate("document.cookie + JSON.stringify({...sessionStorage, ...localStorage})")
    assert "eyJ" not in kept  # no token
    assert await page.evaluate("document.cookie") == ""
    await page.get_by_role("link", name="History").click()
    await expect(page.get_by_role("heading", name="History")).to_be_visible()
    second = await page.context.new_page()
    await second.goto(acme.hub.url)
    await expect(second.get_by_text("Live", exact=True)).to_be_visible()
    await page.get_by_label("Account: Ana Ortiz").click()
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url("http://localhost:*/oauth2/end_session?*")
    await expect(second.get_by_text("You were signed out")).to_be_visible()
    await page.get_by_role("button", name="End session").click()
    await page.wait_for_url(acme.hub.url + "/")
    await expect(page.get_by_role("link", name="Sign in with your organization")).to_be_visible()
    for _ in range(3):
        await page.go_back()
        await asyncio.sleep(0)
        await expect(page.get_by_text("Dana")).to_have_count(0)
    await page.goto(acme.hub.url + "/#/interactions")
    await expect(page.get_by_role("link", name="Sign in with your organization")).to_be_visible()
    await expect(page.get_by_text("Dana")).to_have_count(0)


async def test_an_agent_lands_at_the_desk(visiting: Visits, acme: Centre) -> None:
    """An agent who begins at the console is brought to the desk, signed in; the desk signs out, too."""
    page = await visiting("/")
    await sign_in(page, "max")
    await page.wait_for_url(acme.hub.url + "/desk")
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    await page.goto(acme.hub.url + "/")
    await page.wait_for_url(acme.hub.url + "/desk")
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url("http://localhost:*/oauth2/end_session?*")
    await page.goto(acme.hub.url + "/desk")
    await expect(page.get_by_role("link", name="Sign in with your organization")).to_be_visible()


async def test_whose_token_is_revoked_may_sign_in(visiting: Visits, acme: Centre) -> None:
    """Console and desk offer the provider, too, to whoever came with a token that counts no longer."""
    for path, sub, role in (("/", "bo", "supervisor"), ("/desk", "eva", "agent")):
        page = await visiting(path, acme.token(sub, role))
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        admin = {"authorization": f"Bearer {acme.token('olga', 'admin')}"}
        revoked = await acme.http.post(f"{acme.hub.url}/v1/revocations", json={"sub": sub}, headers=admin)
        assert revoked.status_code == 200
        await expect(page.get_by_role("link", name="Sign in with your organization")).to_be_visible()
        await expect(page.get_by_role("alert")).to_be_visible()


async def test_somebody_without_a_group(visiting: Visits, acme: Centre, axe: Callable[[Page], Awaitable[None]]) -> None:
    """Whom nothing is granted to is told so in a page that leads back and looks like the others."""
    page = await visiting("/")
    await sign_in(page, "guest")
    await expect(page.get_by_role("heading", name="Not signed in")).to_be_visible()
    await expect(page.get_by_text("not_permitted")).to_be_visible()
    assert all("403" in one and "/sign-in/callback" in one for one in visiting.problems)  # the browser says so, too
    visiting.problems.clear()
    assert await page.locator(".signin-card").evaluate("card => getComputedStyle(card).padding") == "32px"
    await axe(page)
    await page.get_by_role("link", name="Back to the start").click()
    await expect(page.get_by_role("link", name="Sign in with your organization")).to_be_visible()
