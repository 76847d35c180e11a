"""The comparing benchmark's pure parts: ranges, ratios, targets, pictures, and what the load client is told."""

import argparse
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from clients.load.peers.__main__ import names_of, scratch_folder
from clients.load.peers.driver import MARK, NUMBER, Speech
from clients.load.peers.figures import HUB, Line, Pair, Question, Range, lines_of, missed, short, table
from clients.load.peers.measure import (
    QUESTIONS,
    SCENARIOS,
    Command,
    check,
    disturbance,
    figures_of,
    most_sockets,
    plans,
)
from clients.load.peers.others import BODY, OTHERS, Nchan, SocketIo, Uws, redis_command
from clients.load.peers.plots import bars, file_name, pictures
from clients.load.peers.programs import BenchError, Cores, Moment, busy_ticks, taken_by_others

SVG = "{http://www.w3.org/2000/svg}"
CPU = Question("P2", "cpu_us", "processor for a delivery", "us", {"uws": 1.4})
RATE = Question("P3", "per_s", "deliveries", "a second", {"uws": 0.7}, more=True)
AGE = Question("P1", "p99_ms", "age, p99", "ms", {}, at_most=140)


def pair(hub: float, other: float, figure: str = "cpu_us", peer: str = "uws") -> Pair:
    """A round."""
    return Pair(peer, {figure: hub}, {figure: other})


def test_a_range_is_the_median_between_the_lowest_and_the_highest() -> None:
    """One slow round moves the upper end, not the median."""
    assert Range.of([3.0, 1.0, 100.0]) == Range(3.0, 1.0, 100.0)
    assert Range.of([2.0, 4.0]).median == 3.0
    with pytest.raises(ValueError, match="one value"):
        Range.of([])


@pytest.mark.parametrize(
    ("value", "shown"), [(0.12345, "0.123"), (12.345, "12.3"), (999.4, "999"), (1234.5, "1,234"), (0, "0")]
)
def test_numbers_are_shown_with_three_figures(value: float, shown: str) -> None:
    """Whole numbers from a thousand on."""
    assert short(value) == shown


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that is slow for a whole round slows both, which leaves that round's ratio as it is."""
    own, other = lines_of(CPU, [pair(10, 10), pair(100, 100), pair(12, 10)])
    assert own.server == HUB
    assert own.ratio is None
    assert other.ratio == Range(1.0, 1.0, 1.2)
    assert other.value == Range(10, 10, 100)


@pytest.mark.parametrize(("hub", "passed"), [(13.9, True), (14.0, True), (14.1, False)])
def test_a_ratio_of_costs_may_be_its_target_at_most(hub: float, passed: bool) -> None:
    """The median is judged, its target included."""
    assert [line.passed for line in lines_of(CPU, [pair(hub, 10)])] == [None, passed]


@pytest.mark.parametrize(("hub", "passed"), [(6.9, False), (7.0, True), (20.0, True)])
def test_a_ratio_of_rates_must_be_its_target_at_least(hub: float, passed: bool) -> None:
    """More is better there."""
    assert [line.passed for line in lines_of(RATE, [pair(hub, 10, "per_s")])] == [None, passed]


def test_a_limit_judges_the_hub_alone() -> None:
    """A peer is shown beside it without a target."""
    own, other = lines_of(AGE, [pair(150, 1, "p99_ms")])
    assert (own.target, own.passed) == (140, False)
    assert (other.target, other.passed) == (None, None)
    assert missed([own, other]) == [own]


def test_a_peer_that_failed_has_no_line() -> None:
    """The hub's rounds beside it still count for the hub."""
    lines = lines_of(CPU, [pair(10, 10), Pair("nchan", {"cpu_us": 30}, {}), Pair("", {"cpu_us": 20}, {})])
    assert [line.server for line in lines] == [HUB, "uws"]
    assert lines[0].value == Range(20, 10, 30)
    assert lines_of(AGE, [pair(1, 1)]) == []


def test_the_table_says_what_failed() -> None:
    """Each figure is a paragraph, each server a line with its range, ratio, target and result."""
    shown = table([*lines_of(CPU, [pair(20, 10)]), *lines_of(RATE, [pair(5000, 1000, "per_s")])]).splitlines()
    assert "P2  processor for a delivery, us" in shown
    assert "P3  deliveries, a second" in shown
    assert shown[4].split() == ["uws", "10", "(10-10)", "2", "(2-2)", "<=", "1.4", "FAIL"]
    assert shown[7].split() == ["uws", "1,000", "(1,000-1,000)", "5", "(5-5)", ">=", "0.7", "pass"]


def test_a_line_of_the_report_holds_all_three_numbers() -> None:
    """Median, lowest and highest, of the value and of the ratio."""
    found = lines_of(CPU, [pair(10, 10), pair(30, 10)])[1].as_json()
    assert found["value"] == {"median": 10, "min": 10, "max": 10}
    assert found["hub_to_this"] == {"median": 2, "min": 1, "max": 3}
    assert found["passed"] is False


def test_bars_are_as_long_as_their_medians() -> None:
    """They begin at zero; the line over each goes from the lowest to the highest."""
    picture = ElementTree.fromstring(bars("Cost & more", "us", [(HUB, Range(10, 5, 20)), ("uws", Range(5, 5, 5))]))
    long, brief = picture.iter(f"{SVG}rect")
    assert float(long.attrib["width"]) == pytest.approx(2 * float(brief.attrib["width"]), abs=0.2)
    assert (long.attrib["class"], brief.attrib["class"]) == ("hub", "peer")
    spread = next(picture.iter(f"{SVG}line"))
    start = float(long.attrib["x"])
    assert float(spread.attrib["x1"]) - start == pytest.approx(float(long.attrib["width"]) / 2, abs=0.2)
    assert float(spread.attrib["x2"]) - start == pytest.approx(float(long.attrib["width"]) * 2, abs=0.2)
    assert picture.findtext(f"{SVG}title") == "Cost & more"


def test_a_bar_of_nothing_is_drawn() -> None:
    """A figure may be zero, as an age in whole milliseconds can be."""
    picture = ElementTree.fromstring(bars("t", "ms", [(HUB, Range(0, 0, 0))]))
    assert [rect.attrib["width"] for rect in picture.iter(f"{SVG}rect")] == ["0.0"]


def test_each_figure_has_a_picture() -> None:
    """Named by its words, in a form that any file system takes."""
    lines: list[Line] = [*lines_of(CPU, [pair(20, 10)]), *lines_of(RATE, [pair(5, 1, "per_s")])]
    assert list(pictures(lines)) == ["p2-processor-for-a-delivery.svg", "p3-deliveries.svg"]
    assert file_name("P1", "age, p99 (ms)") == "p1-age-p99-ms"


def answer(**changed: Any) -> dict[str, Any]:
    """What the load client says."""
    usual = {"sent": 10, "delivered": 1000, "expected": 1000, "seconds": 2.0, "stalled": False, "refused": 0}
    return {**usual, "ready": 100, "p50_us": 1500, "p99_us": 9000, **changed}


def test_figures_come_from_the_client_and_from_proc() -> None:
    """A share of a core is of the time in which events were published, whatever was waited for afterwards."""
    assert figures_of(Command("P1", "open 100"), answer(), 0.5, 1.0) == {
        "P1.percent": 50.0,
        "P1.cpu_us": 500.0,
        "P1.per_s": 500.0,
        "P1.p50_ms": 1.5,
        "P1.p99_ms": 9.0,
    }


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"ready": 98}, "lost 2 of 100 sockets"),
        ({"refused": 3}, "3 events were not taken"),
        ({"stalled": True}, "got stuck"),
        ({"delivered": 0}, "got stuck"),
    ],
)
def test_an_answer_that_cannot_be_believed_is_no_figure(changed: dict[str, Any], why: str) -> None:
    """What was lost on the way would make a server look cheap."""
    check(answer(), 100, "the hub")
    with pytest.raises(BenchError, match=why):
        check(answer(**changed), 100, "the hub")


def test_what_others_took_is_what_is_not_ours() -> None:
    """The two cores' work by the system's own count, steal included, without what our programs used."""
    stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 1 20 900 7 7 7 5 0 0\ncpu1 10 0 0 5 5 5 5 0 0 0\ncpu2 50 0 0 0 0 0 0 0 0 0\n"
    assert busy_ticks(stat, Cores(0, 1)) == 160
    assert taken_by_others(Moment(10, 5, 4), Moment(12, 8, 6)) == 25
    assert taken_by_others(Moment(10, 5, 4), Moment(12, 6, 6)) == 0
    pairs = [Pair("uws", {"P2.others_percent": 1.0, "P2.cpu_us": 9}, {"P2.others_percent": 3.0}), Pair("", {}, {})]
    assert disturbance(pairs) == Range(2, 1, 3)
    assert disturbance([]) is None


def test_scenarios_on_the_same_servers_share_them() -> None:
    """One start of a server answers several questions."""
    assert [[one.name for one in group] for group in plans(["P1", "P2", "P3", "P4"])] == [["P1"], ["P2", "P3"], ["P4"]]
    assert most_sockets(["P1", "P4"], 1_000, growth=False) == 2_000
    assert most_sockets(["P1"], 10, growth=True) == 10_000


def test_each_question_is_about_what_is_measured() -> None:
    """Its figure is one of a command, and each target names a peer that is asked."""
    measured = {
        name for scenario in SCENARIOS.values() for c in scenario.commands for name in figures_of(c, answer(), 1, 1)
    }
    for question in QUESTIONS:
        assert question.figure in measured
        assert set(question.against) <= set(SCENARIOS[question.scenario].peers) <= set(OTHERS)


def test_the_client_is_told_everything_in_one_line() -> None:
    """What may hold any byte goes as hexadecimal digits; sockets come first, since tokens are read by their number."""
    speech = Speech(steps=(("", "hi"), ("ok", "")), reply=("2", "3"), templates=(b"\r\n",), tokens=Path("t"), targets=7)
    given = speech.arguments(5, 80)
    assert given[:2] == ["--sockets", "5"]
    asked = list(zip(given[::2], given[1::2], strict=True))
    assert [value for name, value in asked if name == "--step"] == [":6869", "6f6b:"]
    assert {("--reply", "32:33"), ("--publish", "0d0a"), ("--tokens", "t"), ("--targets", "7")} <= set(asked)


def test_peers_are_published_to_in_their_own_words(tmp_path: Path) -> None:
    """Redis commands and an HTTP request whose lengths are right, with the same event in each."""
    assert redis_command(b"PUBLISH", b"a", b"bc") == b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$2\r\nbc\r\n"
    (uws,) = Uws(tmp_path).speech(False, 1, 2, 1).templates
    assert uws == redis_command(b"PUBLISH", b"ev:q1", BODY)
    head, _, body = Nchan(tmp_path).speech(False, 1, 2, 1).templates[0].partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(body) in head
    assert body == BODY
    (packed,) = SocketIo(tmp_path).speech(True, 1, 2, 5).templates
    name, packet, rooms = msgspec.msgpack.decode(packed.split(b"\r\n", 6)[6][:-2])
    assert (name, packet["data"][0], rooms["rooms"]) == ("emitter", "ev", [f"c{NUMBER}"])
    for kind in OTHERS.values():
        assert f"T@{MARK}".encode() in kind(tmp_path).speech(True, 1, 2, 5).templates[0]


def test_a_peer_that_is_not_there_says_so(tmp_path: Path) -> None:
    """In an empty scratch folder no package is installed."""
    for kind in (Uws, SocketIo):
        missing = kind(tmp_path).missing()
        assert missing is not None
        assert "not installed" in missing


def test_no_word_of_nginx_configuration_is_left_open(tmp_path: Path) -> None:
    """Every placeholder of the file is filled in."""
    argv, _ = Nchan(tmp_path).command(81, 82, tmp_path)
    text = (tmp_path / "nginx.conf").read_text()
    assert argv[1:3] == ["-c", str(tmp_path / "nginx.conf")]
    assert "listen 127.0.0.1:81 " in text
    assert "redis://127.0.0.1:82;" in text
    assert not [line for line in text.splitlines() if "@" in line and not line.startswith("#")]


def test_peers_are_chosen_by_name() -> None:
    """An unknown one is an error that names those there are."""
    assert names_of("nchan,uws") == ["nchan", "uws"]
    assert names_of("") == []
    with pytest.raises(argparse.ArgumentTypeError, match="no such peer: centaur; there are uws, nchan, socketio"):
        names_of("uws,centaur")


def test_the_scratch_folder_is_given_told_or_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An option goes before the variable, and that before the cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BENCH_TMP", raising=False)
    assert scratch_folder(None) == tmp_path / "supervision-hub-bench"
    monkeypatch.setenv("BENCH_TMP", str(tmp_path / "told"))
    assert scratch_folder(None) == tmp_path / "told"
    assert scratch_folder(tmp_path / "given") == tmp_path / "given"
