"""Files: who may bring and open them, what is refused, and that they are inert, bounded and forgotten."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from moto.server import ThreadedMotoServer

from clients import HubError, connect_agent, fetch_file, upload_file
from tests.support.centre import Centre, confirm
from tests.support.files import DOCX, PDF, fetched, linked, package, png, post_file, refusal, uploaded
from tests.support.fixtures import east_and_west, running
from tests.support.processes import CONFIG, HubProcess, StoreProcess
from tests.support.socket import eventually

BYTES_MAX = 300_000
SCANNER = '#!/bin/sh\ngrep -q EICAR "$1" && exit 1\ngrep -q SLOW "$1" && sleep 60\nexit 0\n'
SMALL = f"""
file_bytes_max = {BYTES_MAX}
files_per_conversation = 3
files_org_bytes_max = 700000
file_transfer_ms = 1000
file_scan_ms = 500
file_link_ms = 400
idle_ms = 600
retention_ms = 200
sweep_ms = 100
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub with small limits, a scanner, and two types of files only."""
    folder = tmp_path_factory.mktemp("small")
    scanner = folder / "scan.sh"
    scanner.write_text(SCANNER)
    scanner.chmod(0o755)
    types = '["text/plain", "application/pdf"]'
    table = f'\n[files]\ndir = "{folder}/kept"\ntypes = {types}\nscan_command = ["{scanner}"]\n'
    table += "[masking.queues.billing]\ncard = true\n"
    process = HubProcess(folder, config=CONFIG + SMALL.replace("idle_ms = 600", "") + table)
    process.start()
    yield process
    process.kill()


@pytest_asyncio.fixture
async def strict(small: HubProcess) -> AsyncIterator[Centre]:
    """An organization on it."""
    own = Centre(small)
    yield own
    await own.close()


def agent_of(centre: Centre, sub: str = "max") -> str:
    """An agent's token."""
    return centre.token(sub, "agent")


def customer_of(centre: Centre, conversation: str) -> str:
    """A customer's token."""
    return centre.token("cus_7", "customer", conversation=conversation)


async def test_customer_agent_and_owning_supervisor_exchange_files(centre: Centre) -> None:
    """Each uploads and sends; everybody in the conversation, its platform too, gets the address and can open it."""
    story, ana = await centre.story(), await centre.supervisor()
    agent, customer, platform = await centre.agent(), await centre.customer(story.id), await centre.connector()
    file = await uploaded(centre, customer_of(centre, story.id), story.id, "Rechnung März.pdf")
    await customer.command("message.send", text="", client_message_id="c_1", attachments=[file])
    assert (await agent.expect("message.created", story.id))["data"]["attachments"] == [file]
    sent = await uploaded(centre, agent_of(centre), story.id, "photo.PNG", png())
    assert sent["mime"] == "image/png"
    await agent.command("message.send", conversation_id=story.id, text="", client_message_id="a_1", attachments=[sent])
    assert (await platform.carry_out("outbound.message", story.id))["data"]["attachments"] == [sent]
    await story.taken_over_by(ana)
    last = await uploaded(centre, centre.token("ana"), story.id, "offer.docx", DOCX)
    await ana.command("message.send", conversation_id=story.id, text="", client_message_id="s_1", attachments=[last])
    await customer.expect("message.created", story.id, attachments=[last])
    for bearer in (centre.token("ana"), customer_of(centre, story.id), centre.token("platform", "connector")):
        assert (await fetched(centre, last["url"], bearer)).content == DOCX
        link = (await linked(centre, file["url"], bearer)).json()
        assert (await fetched(centre, link["url"])).content == PDF


async def test_a_file_is_sent_inert(centre: Centre) -> None:
    """A download of its own type under its own name, in a sandbox, for no other origin, without a cookie."""
    story = await centre.story()
    file = await uploaded(centre, agent_of(centre), story.id, 'Größe "1" 文.pdf')
    assert file["name"] == "Größe _1_ 文.pdf"
    headers = (await fetched(centre, file["url"], agent_of(centre))).headers
    assert headers["content-type"] == "application/pdf"
    assert headers["content-disposition"] == (
        "attachment; filename=\"Gr__e _1_ _.pdf\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20_1_%20%E6%96%87.pdf"
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "private, no-store"
    assert headers["content-length"] == str(len(PDF))
    assert "set-cookie" not in headers


async def test_foreign_files_look_like_none(centre: Centre) -> None:
    """Another conversation's, queue's or organization's file is answered as one that never was, byte for byte."""
    story, other = await centre.story(agents=("max",)), await centre.story(agents=("eva",))
    url = (await uploaded(centre, agent_of(centre), story.id))["url"]
    away = Centre(centre.hub)
    strangers = [
        agent_of(centre, "eva"),
        customer_of(centre, other.id),
        centre.token("bo", queues=["billing"]),
        centre.token("bo", permissions=["monitor"]),
        centre.token("elsewhere", "connector"),
        away.token("ana"),
    ]
    made_up = url.replace(url.split("/")[3], "fil_00" + "0" * 20)
    unknown = await fetched(centre, made_up, centre.token("ana"))
    assert unknown.status_code == 404
    for bearer in strangers:
        for answer in (await fetched(centre, url, bearer), await linked(centre, url, bearer)):
            assert (answer.status_code, answer.content) == (404, unknown.content)
    for broken in ("/v1/files/x/y", f"{url}?until=99999999999999&sign={'0' * 32}"):
        assert (await fetched(centre, broken, centre.token("ana"))).content == unknown.content
    assert (await fetched(centre, url)).status_code == 401
    await away.close()


async def test_only_the_conversations_own_files_are_attached(centre: Centre) -> None:
    """Another conversation's file, a made-up one and what is no address are refused; nothing is sent."""
    story, other, agent = await centre.story(), await centre.story(), await centre.agent()
    foreign = await uploaded(centre, agent_of(centre), other.id)
    made_up = foreign | {"url": f"/v1/files/fil_00{'0' * 20}/a.pdf"}
    send = {"conversation_id": story.id, "text": "See", "client_message_id": "d_1"}
    for file in (foreign, made_up):
        await agent.refused("unknown_file", "message.send", **send, attachments=[file])
    for url in ("/v1/files/../a", "javascript:x", f"{foreign['url']}?until=1"):
        error = await agent.refused("schema_invalid", "message.send", **send, attachments=[{"url": url}])
        assert error.details == {"path": "attachments[0].url"}
    assert await centre.messages(story.id) == []


async def test_who_may_not_send_may_not_upload(centre: Centre) -> None:
    """A monitor, an agent who isn't the owner, another customer, a platform: refused as their message would be."""
    story, ana = await centre.story(agents=("max", "eva")), await centre.supervisor()
    await story.monitored_by(ana, participant_id="p_max")

    async def refused(bearer: str) -> str:
        return (await refusal(await post_file(centre, bearer, story.id, "a.pdf", PDF)))[1]

    assert await refused(centre.token("ana")) == "stale_owner"
    assert await refused(agent_of(centre, "eva")) == "stale_owner"
    assert await refused(customer_of(centre, "cnv_other")) == "unknown_conversation"
    assert await refused(centre.token("platform", "connector")) == "not_permitted"
    assert await refused("nonsense") == "unauthenticated"
    await story.end()
    assert await refused(agent_of(centre)) == "conversation_ended"


async def test_an_agent_who_left_keeps_what_was_theirs(centre: Centre) -> None:
    """After a takeover the agent opens files of their time, and none that came later."""
    story, ana = await centre.story(), await centre.supervisor()
    before = await uploaded(centre, agent_of(centre), story.id)
    await story.taken_over_by(ana)
    await asyncio.sleep(0.005)  # the next file's millisecond is another one
    after = await uploaded(centre, centre.token("ana"), story.id)
    assert (await fetched(centre, before["url"], agent_of(centre))).status_code == 200
    assert (await fetched(centre, after["url"], agent_of(centre))).status_code == 404


@pytest.mark.parametrize(
    ("name", "content", "mime", "reason"),
    [
        ("../../etc/passwd.txt", b"x", "", "name"),
        ("C:\\boot.txt", b"x", "", "name"),
        ("invoice\u202efdp.txt", b"x", "", "name"),
        ("a\nb.txt", b"x", "", "name"),
        ("photo.exe.pdf", PDF, "", "name"),
        ("nul.pdf", PDF, "", "name"),
        ("x" * 130 + ".pdf", PDF, "", "name"),
        ("", PDF, "", "name"),
        ("page.html", b"<script>", "text/html", "type"),
        ("logo.svg", b"<svg/>", "image/svg+xml", "type"),
        ("run.exe", b"MZ", "", "type"),
        ("a.pdf", PDF, "text/html", "type"),
        ("a.png", PDF, "image/png", "content"),
        ("a.pdf", b"<html>", "application/pdf", "content"),
        ("a.txt", b"\x00\x01", "text/plain", "content"),
        ("a.docx", package("xl/workbook.xml"), "", "content"),
        ("a.docx", package("word/document.xml", "word/vbaProject.bin"), "", "content"),
        ("a.docx", b"PK\x03\x04 cut", "", "content"),
        ("a.pdf", b"", "", "content"),
    ],
)
async def test_hostile_files(centre: Centre, name: str, content: bytes, mime: str, reason: str) -> None:
    """Names, types and contents that deceive are refused with the reason; the hub keeps nothing of them."""
    story = await centre.story()
    answer = await post_file(centre, agent_of(centre), story.id, name, content, mime)
    assert await refusal(answer) == (422, "file_refused", reason)
    assert list((centre.hub.data / "files" / ".incoming").iterdir()) == []


async def test_limits_are_told(strict: Centre) -> None:
    """A page can ask what is taken, before it sends."""
    answer = await strict.get("/v1/files")
    assert answer.json() == {
        "bytes_max": BYTES_MAX,
        "files_per_conversation": 3,
        "types": {"text/plain": [".txt", ".log"], "application/pdf": [".pdf"]},
    }
    story = await strict.story()
    refused = await post_file(strict, agent_of(strict), story.id, "a.png", png())
    assert refused.json()["error"]["details"]["allowed"] == ["log", "pdf", "txt"]


async def test_too_large_files(strict: Centre) -> None:
    """One that says so is refused before it is read; one that doesn't when it has become so."""
    story = await strict.story()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 10_000

    for content in (b"x" * (BYTES_MAX + 1), endless()):
        answer = await post_file(strict, agent_of(strict), story.id, "a.txt", content)
        assert await refusal(answer) == (413, "too_large", "")
        assert answer.json()["error"]["details"] == {"bytes_max": BYTES_MAX}
    assert (await post_file(strict, agent_of(strict), story.id, "a.txt", b"x" * BYTES_MAX)).status_code == 200


async def trickling(centre: Centre, conversation: str) -> bytes:
    """Announce a file, send its first byte and no more; the answer's first line and body, up to the hub's close."""
    reader, writer = await asyncio.open_connection("127.0.0.1", centre.hub.port)
    head = f"POST /v1/files?conversation_id={conversation} HTTP/1.1\r\nhost: hub\r\nx-file-name: a.txt\r\n"
    writer.write(f"{head}authorization: Bearer {agent_of(centre)}\r\ncontent-length: 9\r\n\r\nx".encode())
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_slow_upload_is_given_up(strict: Centre, small: HubProcess) -> None:
    """What trickles in is cut off after its time, and nothing of it stays; meanwhile one person has three at most."""
    story = await strict.story()
    answers = await asyncio.gather(*(trickling(strict, story.id) for _ in range(4)))
    slow = [one for one in answers if one.startswith(b"HTTP/1.1 422") and b'"reason":"slow"' in one]
    refused = [one for one in answers if one.startswith(b"HTTP/1.1 429") and b'"rate_limited"' in one]
    assert (len(slow), len(refused)) == (3, 1)
    assert re.search(rb"\r\nretry-after: 2\r\n", refused[0], re.IGNORECASE), "when to come back"
    assert list((small.folder / "kept" / ".incoming").iterdir()) == []


async def test_counts_and_room(strict: Centre) -> None:
    """A conversation has so many files, an organization so many bytes; a refused file takes no room."""
    first, second = await strict.story(), await strict.story()
    for number in range(3):
        await uploaded(strict, agent_of(strict), first.id, f"{number}.txt", b"x")
    assert await refusal(await post_file(strict, agent_of(strict), first.id, "4.txt", b"x")) == (
        422, "file_refused", "count",
    )  # fmt: skip
    for _ in range(2):
        await uploaded(strict, agent_of(strict), second.id, "big.txt", b"x" * BYTES_MAX)
    for _ in range(2):
        answer = await post_file(strict, agent_of(strict), second.id, "big.txt", b"x" * BYTES_MAX)
        assert await refusal(answer) == (422, "file_refused", "space")
    await uploaded(strict, agent_of(strict), second.id, "small.txt", b"x")


async def test_the_scanner_has_the_last_word(strict: Centre) -> None:
    """A file that the scanner refuses, or can't decide on in time, isn't kept."""
    story = await strict.story()
    for content in (b"EICAR", b"SLOW"):
        answer = await post_file(strict, agent_of(strict), story.id, "a.txt", content)
        assert await refusal(answer) == (422, "file_refused", "scan")
    await uploaded(strict, agent_of(strict), story.id, "a.txt", b"fine")


async def test_files_of_masked_conversations(strict: Centre) -> None:
    """Where what one reads is masked, nobody who only watches opens a file; who answers does, after a takeover, too."""
    story, ana = await strict.story(queue="billing"), await strict.supervisor()
    url = (await uploaded(strict, agent_of(strict), story.id))["url"]
    await story.monitored_by(ana)
    for answer in (await fetched(strict, url, strict.token("ana")), await linked(strict, url, strict.token("ana"))):
        assert await refusal(answer) == (403, "not_permitted", "masked")
    for bearer in (agent_of(strict), customer_of(strict, story.id)):
        assert (await fetched(strict, url, bearer)).status_code == 200
    await confirm(ana, await story.prepared_by(ana))
    assert (await fetched(strict, url, strict.token("ana"))).content == PDF


async def test_a_link_is_over(strict: Centre) -> None:
    """After its time a link opens nothing, as does one whose time was changed."""
    story = await strict.story()
    file = await uploaded(strict, agent_of(strict), story.id)
    link = (await linked(strict, file["url"], agent_of(strict))).json()
    later = link["url"].replace(f"until={link['expires_at']}", f"until={link['expires_at'] + 60_000}")
    assert (await fetched(strict, later)).status_code == 404

    async def over() -> bool:
        return (await fetched(strict, link["url"])).status_code == 404

    await eventually(over, wanted="the link is over")
    assert time.time() * 1000 >= link["expires_at"]


async def test_an_erased_conversations_files_are_gone(strict: Centre, small: HubProcess) -> None:
    """What retention erases takes its files along: the bytes, the address, and the room that they took."""
    story = await strict.story()
    for number in range(2):
        await uploaded(strict, agent_of(strict), story.id, f"{number}.txt", b"x" * BYTES_MAX)
    kept = small.folder / "kept"
    assert sum(len(files) for _, _, files in os.walk(kept)) >= 2
    url = (await uploaded(strict, agent_of(strict), story.id))["url"]
    await story.end()

    async def gone() -> bool:
        return (await fetched(strict, url, strict.token("ana"))).status_code == 404

    await eventually(gone, timeout=10, wanted="the file is gone")
    here = [Path(folder) / name for folder, _, names in os.walk(kept) for name in names]
    assert [one for one in here if one.name == url.split("/")[3]] == []
    other = await strict.story()
    for number in range(2):
        await uploaded(strict, agent_of(strict), other.id, f"{number}.txt", b"x" * BYTES_MAX)


async def test_any_node_serves_a_file(tmp_path: Path, store: StoreProcess) -> None:
    """Nodes that share store and folder open each other's files, links, and messages with them."""
    config = CONFIG + f'\n[files]\ndir = "{tmp_path}/kept"\n'
    async with running(*east_and_west(tmp_path, store.url, config)) as centre:
        story, agent = await centre.story(), await centre.agent(node=1)
        file = await uploaded(centre, agent_of(centre), story.id)
        link = (await linked(centre, file["url"], agent_of(centre))).json()["url"]
        assert (await fetched(centre, link, node=1)).content == PDF
        await agent.command(
            "message.send", conversation_id=story.id, text="", client_message_id="d_1", attachments=[file]
        )


async def test_files_in_a_bucket(tmp_path: Path) -> None:
    """A hub that keeps files in a bucket takes, sends and serves them, and leaves nothing on its own disk."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    table = f'\n[files]\ns3_bucket = "kept"\ns3_endpoint = "http://{host}:{port}"\ns3_region = "us-east-1"\n'
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    hub = HubProcess(tmp_path / "hub", config=CONFIG + table, environment=credentials)
    try:
        async with running(hub) as centre:
            await centre.http.put(f"http://{host}:{port}/kept")
            story, agent = await centre.story(), await centre.agent()
            file = await uploaded(centre, agent_of(centre), story.id)
            await agent.command(
                "message.send", conversation_id=story.id, text="", client_message_id="d_1", attachments=[file]
            )
            link = (await linked(centre, file["url"], agent_of(centre))).json()["url"]
            assert (await fetched(centre, link)).content == PDF
            assert [one for one in (hub.data / "files").rglob("*") if one.is_file()] == []
            server.stop()
            answer = await post_file(centre, agent_of(centre), story.id, "b.pdf", PDF)
            assert await refusal(answer) == (422, "file_refused", "space")
            assert "a file can't be kept: the bucket refused or didn't answer" in hub.log.read_text()
            assert (await linked(centre, file["url"], agent_of(centre))).status_code == 503
    finally:
        server.stop()


async def test_other_origins(tmp_path: Path, centre: Centre) -> None:
    """A page of an allowed origin may upload for its customer, another one may not even ask."""
    fresh = HubProcess(tmp_path / "fresh", config='origins = ["https://shop.example"]\n' + CONFIG)
    fresh.start()
    own = Centre(fresh)
    try:
        url = f"{fresh.url}/v1/files"
        allowed = await own.http.options(url, headers={"origin": "https://shop.example"})
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
        assert "x-file-name" in allowed.headers["access-control-allow-headers"]
        strange = await own.http.options(url, headers={"origin": "https://elsewhere.example"})
        assert strange.status_code == 403
        assert "access-control-allow-origin" not in strange.headers
    finally:
        await own.close()
        fresh.kill()


async def test_the_sdk_sends_and_fetches(centre: Centre) -> None:
    """A bot uploads and sends, the customer's program fetches; a refusal has its code and reason."""
    story, url = await centre.story(), centre.hub.url
    async with connect_agent(url, token=agent_of(centre)) as agent:
        bearer = agent_of(centre)
        file = await upload_file(url, token=bearer, conversation_id=story.id, name="Größe 1.pdf", content=PDF)
        await agent.message_send(story.id, "", "m_1", attachments=[file])
    assert (await centre.messages(story.id))[-1]["attachments"] == [file]
    assert await fetch_file(url, token=customer_of(centre, story.id), file_url=file["url"]) == PDF
    with pytest.raises(HubError) as refused:
        await upload_file(url, token=bearer, conversation_id=story.id, name="a.exe", content=b"MZ")
    assert (refused.value.code, refused.value.details["reason"]) == ("file_refused", "type")
    with pytest.raises(ValueError, match="not a file"):
        await fetch_file(url, token=bearer, file_url="https://files.example/a.pdf")


async def test_bytes_that_nobody_names_are_removed(tmp_path: Path) -> None:
    """By a running hub, when they are old enough; those of a file that is uploaded and not yet sent stay, and open."""
    hub = HubProcess(tmp_path / "hub", config=CONFIG + "file_sweep_ms = 100\nfile_orphan_ms = 3600000\n")
    async with running(hub) as centre:
        story = await centre.story()
        file = await uploaded(centre, agent_of(centre), story.id)
        [kept] = [path for path in (hub.data / "files").rglob("fil_*") if path.is_file()]
        old, new = (kept.with_name("fil_00" + letter * 20) for letter in "ab")
        for path, age_s in ((kept, 7200), (old, 7200), (new, 60)):
            path.touch()
            os.utime(path, (time.time() - age_s,) * 2)

        async def swept() -> bool:
            return not old.exists()

        await eventually(swept, wanted="the old bytes to go")
        assert new.exists()
        assert (await fetched(centre, file["url"], agent_of(centre))).content == PDF
