"""The comparing benchmark on real hubs: its load client is let in, publishes, and counts what arrives."""

import shutil
import sys
from pathlib import Path

import pytest

from clients.load.peers.driver import build, client
from clients.load.peers.hubs import hubs, port_of
from clients.load.peers.measure import check
from clients.load.peers.programs import BenchError, Cores, cpu_s, rss_bytes, store, two_cores

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc and pins processes to cores"),
    pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="the load client needs a C compiler"),
]
SOCKETS = 4


def cores() -> Cores:
    """Two, or the same one twice: this test looks at counts, not at times."""
    try:
        return two_cores()
    except BenchError:
        return Cores(0, 0)


async def test_each_event_reaches_its_viewers_or_its_monitor(tmp_path: Path) -> None:
    """Counted are as many as were sent, times four viewers or one monitor; none is refused, lost or stuck."""
    binary, (server, rest) = await build(tmp_path), (cores().server, cores().rest)
    async with (
        store(tmp_path, rest) as store_port,
        hubs(tmp_path, rest, store_port) as crowd,
        crowd.measured(server, tick_ms=0) as hub,
    ):
        idle_s = cpu_s(hub.process.pid)
        for one_each in (False, True):
            people = await crowd.organization(one_each, SOCKETS)
            log = tmp_path / "wsload.log"
            async with client(binary, people.speech(), SOCKETS, port_of(hub), rest, log) as load:
                for command in ("closed 2 0.2", "open 40 0.2"):
                    answer = await load.tell(command, 0.2)
                    check(answer, SOCKETS, "the hub")
                assert answer["sent"] == 8
                assert answer["delivered"] == answer["expected"] == 8 * (1 if one_each else SOCKETS)
                assert 0 < answer["p50_us"] <= answer["p99_us"] * 1.04 < 10_000_000  # a bucket is 3 % wide
        assert cpu_s(hub.process.pid) > idle_s > 0
        assert rss_bytes(hub.process.pid) > 10_000_000
