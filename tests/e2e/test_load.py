"""`hub load` from the command line: every scenario with small numbers, what it prints, and its exit statuses."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clients.load.report import losses
from hub.cli import main
from tests.support.centre import Centre
from tests.support.processes import ROOT, SECRET, HubProcess, free_port
from tests.support.socket import eventually

LOAD_S = 40.0
SMALL = ["--conversations", "20", "--rate", "75", "--batch", "3", "--seconds", "1.2"]


@dataclass(frozen=True)
class Loaded:
    """What a finished `hub load` said."""

    status: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        """The JSON on its standard output."""
        read: dict[str, Any] = json.loads(self.out)
        return read

    @property
    def table(self) -> dict[str, list[str]]:
        """The table's rows by their first word."""
        return {line.split()[0]: line.split()[1:] for line in self.out.splitlines() if line.strip()}


async def load(*words: str, **environment: str) -> Loaded:
    """Run it to its end; it is killed where that takes too long."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hub", "load", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | environment,
    )
    try:
        async with asyncio.timeout(LOAD_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Loaded(process.returncode, out.decode(), err.decode())


async def test_watch_monitor_agents_takeovers(hub: HubProcess) -> None:
    """All of them at once: everything arrives, each time is measured, the table stands on standard output."""
    words = ["watch", "monitor", "agents", "takeovers", "--supervisors", "2", "--monitors", "10", "--agents", "4"]
    words += ["--answers", "25", "--takeovers", "7.5", "--fail-if", "takeovers.notice_ms.p99>10000"]
    loaded = await load("--url", hub.url, *SMALL, *words, HUB_TOKEN_SECRET=SECRET)
    assert loaded.status == 0, loaded
    table = loaded.table
    assert table["sent"] == ["90"]
    assert table["monitor_frame_ms"][0] == table["expected_at_monitors"][0] != "0"
    assert table["snapshot_ms"][0] == "2"
    assert table["request_ms"][0] == table["agents.answers"][0] == "30"
    assert table["agents.frame_ms"][0] == "90"
    assert table["agents.own_frame_ms"][0] == table["agents.platform_ms"][0] == "30"
    assert table["takeovers.takeovers"] == ["9"]
    assert table["takeovers.notice_ms"][0] == "9"
    assert float(table["takeovers.notice_ms"][5]) >= float(table["takeovers.notice_ms"][1]) > 0
    assert [line for line in loaded.out.splitlines() if line.startswith("pass")]
    progress = [line for line in loaded.err.splitlines() if " p99 " in line]
    # 2 viewers, 1 socket of monitors, 4 agents, 1 platform; 9 desks and 1 boss for the takeovers
    assert progress[-1].endswith("sockets 18")
    assert "sent 120 " in progress[-1]
    assert "\r" not in loaded.err, "a line is updated in place on terminals only"


async def test_reconnects_at_once(hub: HubProcess, tmp_path: Path) -> None:
    """Half of all sockets are dropped together, under traffic: each is resumed, and no position is missing or doubled."""
    file = tmp_path / "report.json"
    words = ["watch", "monitor", "agents", "reconnects", "--reconnects", "50%", "--supervisors", "3"]
    words += ["--monitors", "20", "--agents", "4", "--json", str(file)]
    loaded = await load("--url", hub.url, *SMALL, *words, HUB_TOKEN_SECRET=SECRET)
    assert loaded.status == 0, loaded
    report = json.loads(file.read_text())
    assert losses(report) == []
    assert report["failures"] == []
    assert report["resets"] == 0
    assert report["monitor_frame_ms"]["count"] == report["sent"] == 90
    assert (report["reconnects"]["dropped"], report["reconnects"]["resume_ms"]["count"]) == (4, 4)
    assert report["machine"]["cores"] == os.cpu_count()


async def test_reconnects_a_second_beside_stuck_readers_past_a_threshold(hub: HubProcess) -> None:
    """Everybody else gets everything, and the exit status says that a limit was passed."""
    words = ["reconnects", "readers", "--reconnects", "8.4", "--monitors", "20", "--readers", "3", "--json", "-"]
    words += ["--reader-flow", "400000", "--fail-if", "monitor_frame_ms.p99>0", "--fail-if", "lost>0"]
    loaded = await load("--url", hub.url, *SMALL, *words, HUB_TOKEN_SECRET=SECRET)
    assert loaded.status == 1, loaded
    report = loaded.report
    assert losses(report) == []
    assert report["reconnects"]["resumed"] == 10
    readers = report["readers"]
    assert readers["slow"] == 3
    assert readers["quiet_ms"]["count"] + readers["beside_ms"]["count"] == report["expected_at_monitors"] == 90
    assert readers["ratio"] > 0
    [failure] = report["failures"]
    assert failure.startswith("monitor_frame_ms.p99 > 0: it is ")
    assert f"FAILED: {failure}" in loaded.err


async def test_slow_readers_and_the_tokens_of_a_file(centre: Centre, tmp_path: Path) -> None:
    """Without the secret, by tokens alone: readers that read slowly are left in peace, and the centre is tidied up."""
    people = [("connector", "platform"), ("supervisor", "ana"), ("agent", "max"), ("agent", "kim")]
    file = tmp_path / "tokens"
    file.write_text(
        "".join(json.dumps({"role": role, "token": centre.token(who, role)}) + "\n" for role, who in people)
    )
    words = ["readers", "--monitors", "10", "--readers", "2", "--reader-flow", "64000", "--reader-speed", "1000000"]
    loaded = await load("--url", centre.hub.url, *SMALL, *words, "--tokens", str(file), "--json", "-")
    assert loaded.status == 0, loaded
    assert loaded.report["readers"]["dropped"] == 0
    ana = await centre.supervisor("ana")

    async def nothing_is_left() -> bool:
        answer = await ana.command("view.subscribe", view="interactions")
        snapshot = await ana.expect("view.snapshot", subscription=answer["subscription"])
        return not snapshot["data"]["rows"]

    await eventually(nothing_is_left, 5, "no conversation")


async def test_a_hub_of_its_own() -> None:
    """Without an address it starts a hub, whose memory is in the report, and without words it watches and monitors."""
    words = ["--conversations", "5", "--supervisors", "1", "--rate", "50", "--seconds", "0.6", "--json", "-"]
    loaded = await load(*words, "--fail-if", "memory.node_mib<1", "--fail-if", "snapshot_ms.p50<0")
    assert loaded.status == 0, loaded
    report = loaded.report
    assert report["lost"] == 0
    assert report["expected_at_monitors"] == report["monitor_frame_ms"]["count"] == report["sent"] == 30
    assert report["memory"]["node_mib"] > 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--fail-if", "takeovers.notice_ms.p99>25"], "no 'takeovers'"),
        (["--fail-if", "monitor_frame_ms>25"], "is no number"),
        (["--url", "http://192.0.2.1:8000"], "this machine only"),
        (["--url", "http://127.0.0.1:1"], "HUB_TOKEN_SECRET"),
    ],
)
def test_wrong_arguments(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are found before anything is started: status 2 and the reason, nothing on standard output."""
    assert main(["load", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert why in printed.err


@pytest.mark.parametrize("scenario", ["watch", "agents"])
def test_no_hub_there(scenario: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that doesn't answer is status 1 and one sentence."""
    monkeypatch.setenv("HUB_TOKEN_SECRET", SECRET)
    assert main(["load", scenario, "--url", f"http://127.0.0.1:{free_port()}"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("The load test failed: ")
