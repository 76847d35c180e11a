"""The pages as files: policies, caching, compression, people of a demonstration, anonymous customers, no drift."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.conftest import GUESTS, Visits
from tests.support.centre import Centre
from tests.support.processes import HubProcess
from tests.support.refusals import asked_for

WEB = Path(__file__).resolve().parents[2] / "clients" / "web"
PAGES = {"/": "console", "/desk": "desk", "/messenger": "messenger"}


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_names_only_its_own_origins_parts(centre: Centre, path: str) -> None:
    """Script and style come from the hub, nothing is inline, and the policy says so to the browser."""
    answer = await centre.http.get(centre.hub.url + path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert f'src="/assets/{PAGES[path]}.js"' in answer.text
    assert f'href="/assets/{PAGES[path]}.css"' in answer.text
    assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=|https?://", answer.text)


async def test_assets_are_small_and_asked_for_once(centre: Centre) -> None:
    """An asset comes compressed, with a tag by which the browser needn't load it again, and may be embedded elsewhere."""
    url = f"{centre.hub.url}/assets/alert.js"
    first = await centre.http.get(url)
    assert first.headers["content-encoding"] == "gzip"
    assert first.headers["content-type"].startswith("text/javascript")
    assert first.headers["access-control-allow-origin"] == "*"
    again = await centre.http.get(url, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = await centre.http.get(url, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.text == first.text


@pytest.mark.parametrize("name", ["nothing.js", "..%2f..%2fpyproject.toml", "%2e%2e/package.json", "console.ts", ""])
async def test_nothing_else_is_an_asset(centre: Centre, name: str) -> None:
    """Only what was built is served; a path that climbs finds nothing."""
    answer = await centre.http.get(f"{centre.hub.url}/assets/{name}")
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}


async def test_a_guest_gets_a_token_for_one_conversation(centre: Centre) -> None:
    """The token is a customer's, of the configured organization, and opens its own conversation alone."""
    answer = await centre.http.post(f"{centre.hub.url}/v1/guests", json={"name": "  Dana   Doe "})
    assert answer.status_code == 200
    guest = answer.json()
    line = await centre.connect("/v1/customer", guest["token"])
    assert line.session["user"]["name"] == "Dana Doe"
    await line.command("conversation.start", queue="support")
    await line.expect("conversation.snapshot", guest["conversation_id"])
    await line.refused("unknown_conversation", "typing", conversation_id="cnv_1", on=True)
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("body", [b"[]", b'{"name": 7}', b'{"role": "admin"}', b"\xff", b"{"])
async def test_a_guest_says_a_name_or_nothing(centre: Centre, body: bytes) -> None:
    """Anything but a name is refused."""
    answer = await centre.http.post(f"{centre.hub.url}/v1/guests", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "schema_invalid"


async def test_guests_of_one_address_are_limited(tmp_path: Path, hub: HubProcess) -> None:
    """The eleventh guest of a minute waits, and is told how long; a strange page may not ask at all."""
    fresh = HubProcess(tmp_path / "fresh", config=f'guests_org = "{GUESTS}"\n').start()
    try:
        own = Centre(fresh)
        url = f"{fresh.url}/v1/guests"
        strange = await own.http.post(url, headers={"origin": "https://elsewhere.example"})
        assert strange.status_code == 403
        statuses = [(await own.http.post(url)).status_code for _ in range(11)]
        assert statuses == [200] * 10 + [429]
        late = await own.http.post(url)
        assert asked_for(late.status_code, late.headers)
        error = late.json()["error"]
        assert (error["code"], error["retryable"]) == ("rate_limited", True)
        assert 0 < error["details"]["retry_ms"] <= 6001
        await own.close()
    finally:
        fresh.kill()


async def test_without_configuration_there_are_no_guests_and_no_people(tmp_path: Path, hub: HubProcess) -> None:
    """Anonymous customers and ready-made tokens exist only where somebody asked for them."""
    bare = HubProcess(tmp_path / "bare", config="").start()
    try:
        own = Centre(bare)
        assert (await own.http.post(f"{bare.url}/v1/guests")).status_code == 404
        assert (await own.http.get(f"{bare.url}/v1/personas")).status_code == 404
        await own.close()
    finally:
        bare.kill()


async def test_a_person_of_the_demonstration_signs_in_by_a_click(visit: Visits) -> None:
    """The desk signs its own people in, and opens other apps for the others."""
    page = await visit("/desk")
    link = page.get_by_role("link", name="Ana The supervisor")
    assert (await link.get_attribute("href") or "").startswith("/#token=")
    await page.get_by_role("button", name="Max The agent").click()
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()


@pytest.mark.skipif(
    shutil.which("node") is None or not (WEB / "node_modules" / "esbuild").is_dir(), reason="needs node and `make web`"
)
def test_what_is_served_is_what_the_sources_give() -> None:
    """The committed files are the sources' own, and within their budget."""
    done = subprocess.run(["node", "build.mjs", "--check"], cwd=WEB, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lock_file_names_no_registry() -> None:
    """Packages are fetched from wherever the one who builds says."""
    assert "resolved" not in (WEB / "package-lock.json").read_text()
