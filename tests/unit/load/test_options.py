"""The command line of `hub load`: which scenarios with which numbers, and what is refused before anything starts."""

import argparse
from pathlib import Path

import pytest

from clients.load.credentials import Credentials
from clients.load.options import Plan, WrongArguments, add_arguments, check_address, check_output, plan_of
from clients.load.play import Play
from clients.load.report import LOSSES
from clients.load.scenarios import Drops
from clients.load.thresholds import look_up


def parsed(line: str) -> argparse.Namespace:
    """A command line's arguments."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(line.split())


def plan(line: str) -> Plan:
    """A command line's plan."""
    return plan_of(parsed(line))


def test_without_words_it_watches_and_monitors() -> None:
    """Ten supervisors, 200 monitors, nothing else."""
    assert plan("") == Plan(supervisors=10, monitors=200)


def test_the_numbers_of_the_usual_scenarios() -> None:
    """Each option keeps its meaning, and 0 leaves a scenario out."""
    line = "--conversations 2000 --supervisors 20 --monitors 1000 --rate 500 --seconds 30 --batch 5"
    expected = Plan(conversations=2000, supervisors=20, monitors=1000, rate=500, seconds=30, batch=5)
    assert plan(line) == expected
    assert plan("--supervisors 0 --monitors 0") == Plan()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("watch", Plan(supervisors=10)),
        ("monitor", Plan(monitors=200)),
        ("agents", Plan(agents=50, answers=100)),
        ("agents --answers 7", Plan(agents=50, answers=7)),
        ("takeovers", Plan(takeovers=10)),
        ("reconnects", Plan(monitors=200, reconnects=Drops(share=0.2))),
        ("readers", Plan(monitors=200, readers=20)),
        ("watch takeovers --takeovers 3", Plan(supervisors=10, takeovers=3)),
        ("watch --monitors 5", Plan(supervisors=10, monitors=5)),
        ("--reconnects 5", Plan(supervisors=10, monitors=200, reconnects=Drops(per_s=5))),
        ("agents --conversations 30", Plan(conversations=30, agents=30, answers=100)),
        ("--conversations 30", Plan(conversations=30, supervisors=10, monitors=30)),
    ],
)
def test_scenarios_are_chosen_by_name_and_by_number(line: str, expected: Plan) -> None:
    """A name brings its default, a number its scenario; names leave the usual ones out."""
    assert plan(line) == expected


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("--conversations 5 --monitors 6", "--monitors"),
        ("--conversations 5 --agents 6", "--agents"),
        ("--rate -1", "negative"),
        ("--rate nan", "negative"),
        ("--seconds 0", "above 0"),
        ("--batch 0", "above 0"),
        ("takeovers --takeovers 0.1 --seconds 2", "less than one"),
        ("readers --monitors 0", "readers"),
        ("readers --rate 0", "readers"),
        ("takeovers --reconnects 5", "no socket"),
        ("agents reconnects --agents 1 --conversations 501", "500 conversations"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(line: str, why: str) -> None:
    """The refusal says which."""
    with pytest.raises(WrongArguments, match=why):
        plan(line)


@pytest.mark.parametrize("line", ["fly", "--reconnects x", "--reconnects 101%", "--reconnects -3", "--fail-if x"])
def test_words_that_make_no_sense_are_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Usage and the word, exit status 2."""
    with pytest.raises(SystemExit) as ended:
        parsed(line)
    assert ended.value.code == 2
    assert line.split()[-1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("--url http://192.0.2.1:8000", "this machine only"),
        ("--url https://hub.example", "--allow-remote"),
        ("--url ftp://127.0.0.1", "--url"),
        ("--tokens file", "--url"),
    ],
)
def test_addresses_that_are_refused(line: str, why: str) -> None:
    """Load goes elsewhere only at the user's word."""
    with pytest.raises(WrongArguments, match=why):
        check_address(parsed(line))


@pytest.mark.parametrize(
    "line", ["", "--url ws://127.0.0.1:8000", "--url http://[::1]:80", "--url https://hub.example --allow-remote"]
)
def test_addresses_that_are_taken(line: str) -> None:
    """This machine's by any name, and another one where the user says so."""
    check_address(parsed(line))


def test_a_report_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    """A folder that isn't there, or a folder instead of a file."""
    check_output(parsed("--json -"))
    check_output(parsed(f"--json {tmp_path}/report.json"))
    for path in (tmp_path, tmp_path / "none" / "report.json"):
        with pytest.raises(WrongArguments, match="--json"):
            check_output(parsed(f"--json {path}"))


def test_a_report_has_all_its_keys_before_the_run() -> None:
    """Thresholds are checked against it, and what must be 0 names nothing that doesn't exist."""
    everything = Plan(supervisors=1, monitors=1, agents=1, answers=1, takeovers=1, reconnects=Drops(per_s=1), readers=1)
    report = Play(everything, Credentials("-" * 32), "http://127.0.0.1").report()
    assert [path for path in LOSSES if look_up(report, path) != 0] == []
    for path in ("agents.platform_ms.p99", "takeovers.notice_ms.p50", "reconnects.resume_ms.max", "readers.ratio"):
        assert look_up(report, path) is None
    assert set(report) - set(Play(Plan(), Credentials("-" * 32), "http://127.0.0.1").report()) == {
        *("agents", "takeovers", "reconnects", "readers")
    }
