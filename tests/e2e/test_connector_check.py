"""`hub connector-check` as a program: its report, its exit status, and what it doesn't take."""

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.called import status_of
from tests.support.http_server import Asked, HttpServer, Said
from tests.support.processes import ROOT
from tests.unit.test_connector_check import KEY, Good, PastOnly

SECRET = "whsec_" + base64.b64encode(KEY).decode()


def checked(receiver: Good, *arguments: str, secret: str = SECRET) -> "subprocess.CompletedProcess[str]":
    """The program, run against a receiver, with the secret in its environment."""
    with HttpServer(receiver.answer) as server:
        return called(server.url + "/hook", *arguments, secret=secret)


def called(*arguments: str, secret: str = SECRET) -> "subprocess.CompletedProcess[str]":
    """The program with these arguments."""
    line = [sys.executable, "-m", "hub", "connector-check", *arguments]
    environment = os.environ | {"HUB_CONNECTOR_SECRET": secret}
    return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60, check=False)


def test_a_good_receiver_is_told_so() -> None:
    """A line a check, a sum, exit status 0; the secret shows nowhere."""
    done = checked(Good())
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok        message ")
    assert "21 passed, 0 missing" in lines
    assert "this must be shown once" in lines[-1]
    assert SECRET not in done.stdout + done.stderr


def test_what_is_missing_is_told_with_how_to_mend_it(tmp_path: Path) -> None:
    """Exit status 1; as JSON the same; the secret may stand in a file."""
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    done = checked(PastOnly(), "--json", "--secret-file", str(file), secret="")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert (report["passed"], report["missing"]) == (20, 1)
    [missing] = [one for one in report["checks"] if one["level"] == "fail"]
    assert missing["name"] == "future"
    assert "in either direction" in missing["mend"]


def test_a_receiver_that_isnt_there_is_told() -> None:
    """Nothing else can be said then."""
    with HttpServer(lambda _: Said()) as server:
        url = server.url
    done = called(url)
    assert done.returncode == 1
    assert "no answer (no connection)" in done.stdout.splitlines()[0]
    assert "0 passed, 20 missing" in done.stdout


def test_what_cant_be_checked_ends_with_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No secret, one that is none, no address; said in a sentence, without the secret."""
    for arguments, secret, words in (
        (["http://127.0.0.1:1/"], "", "HUB_CONNECTOR_SECRET"),
        (["http://127.0.0.1:1/"], "whsec_$$$", "isn't base64"),
        (["http://127.0.0.1:1/"], "whsec_c2hvcnQ=", "has 5 bytes"),
        (["shop.example/hook"], SECRET, "allowed: https://"),
        (["http://127.0.0.1:1/", "--timeout-ms", "0"], SECRET, "milliseconds"),
        (["http://127.0.0.1:1/", "--secret-file", str(tmp_path / "none")], "", "No such file"),
    ):
        monkeypatch.setenv("HUB_CONNECTOR_SECRET", secret)
        status = status_of("connector-check", *arguments)
        said = capsys.readouterr()
        assert (status, said.out) == (2, ""), arguments
        assert words in said.err
        assert "$$$" not in said.err


def test_a_slow_receiver_isnt_waited_for_longer_than_said() -> None:
    """`--timeout-ms` is the wait for one answer."""
    stuck = Good()

    class Stuck(Good):
        """Answers a second too late."""

        def answer(self, asked: Asked) -> Said:
            time.sleep(1.0)
            return stuck.answer(asked)

    done = checked(Stuck(), "--timeout-ms", "200")
    assert done.returncode == 1
    assert "no answer within 0.2 s" in done.stdout.splitlines()[0]
