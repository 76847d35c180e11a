"""`hub connector-check --listen` as a program: what it prints first, its report, its exit status, what it doesn't take."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.cli import main
from hub.connector_story import CHECKS
from hub.store.embedded import EmbeddedError
from tests.support.called import status_of
from tests.support.connectors import Connector, Json
from tests.support.http_server import HttpServer
from tests.support.processes import ROOT
from tests.unit.test_connector_hub import KEY, SECRET


@asynccontextmanager
async def listening(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The program on any free port; ended at last."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub", "connector-check", "--listen", "127.0.0.1:0", *arguments,
        stdout=asyncio.subprocess.PIPE, cwd=ROOT, env=os.environ | {"HUB_CONNECTOR_SECRET": ""},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def lines_of(process: asyncio.subprocess.Process) -> AsyncIterator[str]:
    """What it prints, line by line."""
    assert process.stdout is not None
    async for line in process.stdout:
        yield line.decode().rstrip("\n")


async def play(made: type[Connector], lines: AsyncIterator[str], first: dict[str, str], **more: Any) -> Json:
    """Do as each step says; the report."""
    connector = made(first["address"], first["token"], **more)
    await connector.open()
    try:
        async for line in lines:
            told = json.loads(line)
            if "step" not in told:
                return dict(told)
            connector.say(told["step"], told["say"])
    finally:
        await connector.close()
    raise AssertionError("it ended without a report")


async def test_a_pipeline_reads_where_to_connect_and_what_to_do(tmp_path: Path) -> None:
    """As JSON, a document a line: where and with what, the steps, the report; exit status 0 where nothing is missing."""
    file = tmp_path / "secret"
    await asyncio.to_thread(file.write_text, SECRET)
    with HttpServer() as receiver:
        async with listening(receiver.url + "/hook", "--secret-file", str(file), "--json") as process:
            lines = lines_of(process)
            first = json.loads(await anext(lines))
            assert set(first) == {"address", "token", "webhooks", "secret"}
            assert first["secret"] == SECRET
            assert first["webhooks"].startswith(first["address"])

            class Hooked(Connector):
                """Answers at that address."""

                async def open(self) -> None:
                    receiver.answers = self.hook(asyncio.get_running_loop())

            path = first["webhooks"].removeprefix(first["address"])
            report = await play(Hooked, lines, first, key=KEY, path=path)
            assert (report["passed"], report["missing"]) == (len(CHECKS), 0)
            assert [one["name"] for one in report["checks"]] == [check.name for check in CHECKS]
            assert await process.wait() == 0


async def test_what_is_missing_is_told_with_how_to_mend_it() -> None:
    """For people: lines, the steps among them, a sum; exit status 1. Without a URL there is a token, and no secret."""
    async with listening("--wait-s", "1") as process:
        shown = [line async for line in lines_of(process)]
        assert await process.wait() == 1
    assert [line.split()[0] for line in shown[:3]] == ["address", "token", "step"]
    assert "step      begin " in shown[2]
    text = "\n".join(shown)
    assert "fail      connected            no event has come" in text
    assert "wanted: events" in text
    assert shown[-1] == f"3 passed, {len(CHECKS) - 3} missing"
    assert "secret" not in text


def test_without_an_engine_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The store's own words, not a traceback."""

    def nowhere() -> Path:
        raise EmbeddedError("no engine")

    monkeypatch.setattr("hub.store.embedded.find_engine", nowhere)
    assert main(["connector-check", "--listen", "127.0.0.1:0"]) == 2
    assert "needs a store of its own: no engine" in capsys.readouterr().err


def test_what_cant_be_listened_on_ends_with_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said in a sentence, without the secret."""
    monkeypatch.setenv("HUB_CONNECTOR_SECRET", "")
    for arguments, words in (
        ([], "URL or --listen"),
        (["--listen", "nowhere"], "HOST:PORT"),
        (["--listen", "127.0.0.1:0", "shop.example"], "allowed: https://"),
        (["--listen", "127.0.0.1:0", "--wait-s", "0"], "seconds"),
    ):
        status = status_of("connector-check", *arguments)
        said = capsys.readouterr()
        assert (status, said.out) == (2, ""), arguments
        assert words in said.err
