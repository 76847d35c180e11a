"""The command line: exit statuses, output that programs read, and how long Ctrl-C takes."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import pytest

from hub import cli
from hub.cli import main
from hub.edge.auth import Authenticator
from hub.settings import Settings, SettingsError, bind
from hub.store.embedded import DataDirLocked, Embedded, EmbeddedError, find_engine
from tests.support.engines import Engine, wait_until
from tests.support.processes import free_port

SECRET = "0123456789abcdef0123456789abcdef"
PEOPLE = """
[people.ana]
name = "Ana Ortiz"
org = "acme"
role = "supervisor"
permissions = ["view", "monitor"]
queues = ["*"]
divisions = ["home"]
"""
TOKEN = ["token", "--role", "supervisor", "--sub", "ana", "--name", "Ana Ortiz", "--org", "acme", "--queues", "*"]
TOKEN += ["--divisions", "*", "--permissions", "view,monitor,takeover,history", "--ttl", "8h"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder with a secret, and leave the process's signals as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUB_TOKEN_SECRET", SECRET)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def start(*words: str, **environment: str) -> "subprocess.Popen[str]":
    """One program in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "hub", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )


def serve(folder: Path, port: int = 0, **environment: str) -> "subprocess.Popen[str]":
    """A hub on its own store in a folder, without metrics."""
    return start(
        "serve", "--port", str(port), "--data-dir", str(folder / "data"), "--metrics-listen", "", **environment
    )


def ready(hub: "subprocess.Popen[str]") -> str:
    """The address in the line that a hub prints when it is ready."""
    assert hub.stdout is not None
    line = hub.stdout.readline()
    assert line.startswith("ready http://127.0.0.1:"), (line, hub.stderr and hub.stderr.read())
    return line.split()[1]


def engines(folder: Path) -> list[int]:
    """The processes whose working directory is a folder's store."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == folder / "data" / "store":
                found.append(int(entry.name))
        except OSError:
            continue
    return found


# token


def test_token_prints_one_token_and_nothing_else(capsys: Capture) -> None:
    """The documented command prints a JWT that a hub with the same secret takes."""
    assert main(TOKEN) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.count("\n") == 1
    person = asyncio.run(Authenticator(Settings(token_secret=SECRET.encode())).verify(printed.out.strip()))
    assert (person.user_id, person.name, person.org, person.role) == ("ana", "Ana Ortiz", "acme", "supervisor")
    assert person.permissions == {"view", "monitor", "takeover", "history"}
    assert person.queues == person.divisions == {"*"}
    assert abs(person.expires_at - person.issued_at - 8 * 3_600_000) < 1_000


def test_token_is_plain_jwt(capsys: Capture) -> None:
    """Any JWT library reads it with the secret, and finds the documented claims."""
    main(TOKEN)
    claims = jwt.decode(capsys.readouterr().out.strip(), SECRET, algorithms=["HS256"], audience="hub", issuer="hub")
    assert {"sub", "name", "org", "role", "permissions", "queues", "divisions", "exp", "iat", "iss", "aud"} <= set(
        claims
    )


def test_token_of_a_configured_person(tmp_path: Path, capsys: Capture) -> None:
    """`--person` takes the rights from the configuration, and flags win over it."""
    (tmp_path / "hub.toml").write_text(PEOPLE)
    assert main(["token", "--person", "ana", "--queues", "support"]) == 0
    claims = jwt.decode(capsys.readouterr().out.strip(), SECRET, algorithms=["HS256"], audience="hub")
    assert (claims["sub"], claims["name"], claims["divisions"]) == ("ana", "Ana Ortiz", ["home"])
    assert claims["queues"] == ["support"]


def test_token_of_a_secret_file(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret may stand in a file that the configuration names."""
    monkeypatch.delenv("HUB_TOKEN_SECRET")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "hub.toml").write_text('token_secret_file = "secret"')
    assert main(TOKEN) == 0
    assert jwt.decode(capsys.readouterr().out.strip(), SECRET, algorithms=["HS256"], audience="hub")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["token", "--role", "agent", "--org", "acme"], "--sub is needed"),
        (["token", "--role", "boss", "--org", "acme", "--sub", "a"], "role"),
        (["token", "--role", "agent", "--org", "acme", "--sub", "a b"], "`sub`"),
        (["token", "--role", "customer", "--org", "acme", "--sub", "a"], "conversation"),
        (["token", "--role", "agent", "--org", "acme", "--sub", "a", "--permissions", "fly"], "fly"),
        (["token", "--person", "nobody"], "'nobody'"),
    ],
)
def test_wrong_tokens(words: list[str], hint: str, capsys: Capture) -> None:
    """A token that no hub would take isn't printed: status 2 and the reason."""
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert hint in printed.err


@pytest.mark.parametrize("words", [[], ["fly"], ["token", "--ttl", "8"], ["config"], ["serve", "--no-such"]])
def test_wrong_command_lines(words: list[str], capsys: Capture) -> None:
    """A command line that makes no sense ends with 2 and a usage."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: hub" in capsys.readouterr().err


# config show, doctor


def test_config_show(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value stands there with its origin; the secret only as `set`."""
    (tmp_path / "hub.toml").write_text("host = '0.0.0.0'\n" + PEOPLE)
    monkeypatch.setenv("HUB_TICK_MS", "0")
    monkeypatch.setenv("HUB_TIK_MS", "0")
    assert main(["config", "show", "--port", "81", "--explain"]) == 0
    printed = capsys.readouterr()
    lines = {line.split(" = ")[0].strip(): line for line in printed.out.splitlines()}
    assert "# hub.toml line 1" in lines["host"]
    assert "# --port" in lines["port"]
    assert "# HUB_TICK_MS" in lines["limits.tick_ms"]
    assert "0: each is sent at once" in lines["limits.tick_ms"]
    assert " = set " in lines["token_secret"]
    assert "hub.toml line 3" in lines["people.ana.role"]
    assert SECRET not in printed.out
    assert "HUB_TIK_MS is not a setting" in printed.err


def test_wrong_configuration(tmp_path: Path, capsys: Capture) -> None:
    """Every program that reads the configuration ends with 2 and names file and line."""
    (tmp_path / "other.toml").write_text("\nprot = 1\n")
    for words in (["serve"], ["config", "show"], TOKEN):
        assert main([*words, "--config", "other.toml"]) == 2
        assert "other.toml line 2: unknown key `prot`" in capsys.readouterr().err


def test_doctor(tmp_path: Path, capsys: Capture) -> None:
    """With a secret nothing fails; one line for each finding."""
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    assert {"secret", "engine", "store", "data"} <= {line.split()[1] for line in lines}


def test_doctor_looks_at_a_running_store(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version, clock, durability and eviction of the store that is there are reported; an evicting one fails."""

    async def examine(*extra: str) -> int:
        store = await Embedded.start(tmp_path / "data", extra=extra)
        monkeypatch.setenv("HUB_REDIS_URL", store.url)
        try:
            return await asyncio.to_thread(main, ["doctor"])
        finally:
            await store.stop()

    assert asyncio.run(examine()) == 0
    report = capsys.readouterr().out
    for found in ("Valkey", "from the store's", "append-only file is on", "noeviction"):
        assert found in report
    assert asyncio.run(examine("--maxmemory-policy", "allkeys-lru", "--appendonly", "no")) == 1
    report = capsys.readouterr().out
    assert "fail  eviction" in report
    assert "warn  durability" in report


def test_doctor_asks_the_sentinels(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them should be named in the address: a hub that knows few of them may take them for the majority."""
    binary = str(find_engine())
    primary = Engine(binary, port=free_port()).start()
    sentinels = [Engine.sentinel(binary, "main", primary).start() for _ in range(2)]
    try:
        wait_until(
            lambda: len(sentinels[0].ask("SENTINEL", "SENTINELS", "main")) == 1, "Sentinels that know each other"
        )
        hosts = [f"127.0.0.1:{sentinel.port}" for sentinel in sentinels]
        monkeypatch.setenv("HUB_REDIS_URL", f"redis+sentinel://{hosts[0]}/main")
        assert main(["doctor"]) == 0
        assert "warn  sentinels   2 watch main, 1 are named" in capsys.readouterr().out
        monkeypatch.setenv("HUB_REDIS_URL", f"redis+sentinel://{','.join(hosts)}/main")
        assert main(["doctor"]) == 0
        assert "ok    sentinels   2 of 2 named" in capsys.readouterr().out
    finally:
        for engine in (*sentinels, primary):
            engine.remove()


def test_doctor_finds_what_is_wrong(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that others may read and a store that isn't there fail, with status 1."""
    monkeypatch.delenv("HUB_TOKEN_SECRET")
    monkeypatch.setenv("HUB_REDIS_URL", f"unix://{tmp_path}/none.sock")
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o644)
    (tmp_path / "hub.toml").write_text('token_secret_file = "secret"')
    assert main(["doctor"]) == 1
    report = capsys.readouterr().out
    assert "fail  secret file" in report
    assert "chmod 600" in report
    assert "fail  store" in report
    (tmp_path / "hub.toml").write_text("port = 'x'")
    assert main(["doctor"]) == 1
    assert "fail  settings    hub.toml line 1" in capsys.readouterr().out


# serve


def test_serve_without_secret(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a secret and issuers it refuses with 2 and says how to make a secret."""
    monkeypatch.delenv("HUB_TOKEN_SECRET")
    assert main(["serve"]) == 2
    assert "export HUB_TOKEN_SECRET=$(openssl rand -hex 32)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (DataDirLocked("locked"), 2),
        (SettingsError("port in use"), 2),
        (EmbeddedError("no engine"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_statuses(raised: BaseException, status: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends the hub early decides about the status."""

    async def serve(_settings: Settings, *, announce: Callable[[str], None]) -> int:
        announce("starting")
        raise raised

    monkeypatch.setitem(sys.modules, "hub.app", types.SimpleNamespace(serve=serve))
    assert main(["serve"]) == status
    assert capsys.readouterr().out == "starting\n"


def test_bind() -> None:
    """A port is taken as soon as it is bound; the second one to ask is refused with the flag's name."""
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^--port: 127\.0\.0\.1:{port} can't be listened on"):
            bind("127.0.0.1", port)
    with pytest.raises(SettingsError, match="--metrics-listen"):
        bind("192.0.2.1", 0, flag="--metrics-listen")
    with pytest.raises(SettingsError, match="--host"):
        bind("no.such.host.invalid", 0, flag="--host")


@pytest.mark.parametrize("engine", ["auto", "asyncio", "uvloop"])
def test_loop_engines(engine: str) -> None:
    """Each engine runs a program and gives back its status."""

    async def program() -> int:
        module = type(asyncio.get_running_loop()).__module__
        assert module.startswith("asyncio" if engine == "asyncio" else "uvloop")
        return 7

    assert cli.run(program(), engine) == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_in_time(tmp_path: Path, number: signal.Signals) -> None:
    """A hub without sockets ends with 0 within 3 s of SIGTERM or Ctrl-C, its engine too, and starts again."""
    for _ in range(2):
        with serve(tmp_path) as hub:
            ready(hub)
            assert engines(tmp_path)
            asked = time.monotonic()
            hub.send_signal(number)
            assert hub.wait(10) in ((0,) if number == signal.SIGTERM else (0, 130))
            assert time.monotonic() - asked < 3
            assert not engines(tmp_path)


def test_second_hub_on_the_data(tmp_path: Path) -> None:
    """A second hub on the same data directory ends with 2 and leaves the first alone."""
    with serve(tmp_path) as first:
        ready(first)
        with serve(tmp_path) as second:
            _, said = second.communicate(timeout=20)
            assert second.returncode == 2
            assert "another hub is running on the data directory" in said
        assert first.poll() is None
        first.terminate()
        assert first.wait(10) == 0


def test_port_in_use(tmp_path: Path) -> None:
    """A port that somebody has ends it with 2, before a store is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken, serve(tmp_path, taken.getsockname()[1]) as hub:
        _, said = hub.communicate(timeout=20)
        assert hub.returncode == 2
        assert "--port" in said
        assert not engines(tmp_path)


def test_store_folder_is_private(tmp_path: Path) -> None:
    """Nobody else may enter the folder of the store."""
    with serve(tmp_path) as hub:
        ready(hub)
        assert stat.S_IMODE((tmp_path / "data" / "store").stat().st_mode) == 0o700
        hub.terminate()
        assert hub.wait(10) == 0


def test_output_that_nobody_reads(tmp_path: Path) -> None:
    """A reader that goes away early (`| head -1`) brings no traceback."""
    line = f"{sys.executable} -m hub config show | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.startswith("host")
    assert done.stderr == ""


def test_token_starts_fast() -> None:
    """`hub token` imports neither the server nor the clients, so that scripts may call it often."""
    program = "import sys, json; from hub.cli import main; main(sys.argv[1:]); print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program, *TOKEN], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout.splitlines()[1]))
    assert not modules & {"hub.app", "uvicorn", "starlette", "redis", "clients", "hub.doctor"}
