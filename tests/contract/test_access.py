"""
Who may do what in the store, and the way there: an ACL with exactly what the hub sends, TLS, and what `hub doctor` says.

SOAK_ACL=1 takes each command away once, instead of one that a seed picks.
"""

import asyncio
import datetime
import ipaddress
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hub.doctor import examine
from hub.findings import Finding
from hub.settings import Settings
from hub.store.access import NEEDED, SOMETIMES, TOO_MUCH, acl_file, rules, sample
from hub.store.connection import Unavailable
from hub.store.embedded import find_engine
from hub.store.topology import Primaries
from tests.support.centre import Centre
from tests.support.engines import Engine, Engines, wait_until
from tests.support.processes import CONFIG, ROOT, HubProcess, free_port
from tests.support.provider import Call, Reply, open_config, open_table, providing
from tests.support.socket import eventually
from tests.support.tour import Tour

PASSWORD = "for-tests-only"
ACL = ROOT / "docs/stack/users.acl"
# Ended conversations go within a second, so that what erases them is sent, too.
SHORT = CONFIG + "retention_ms = 500\nsweep_ms = 100\n"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine with the ACL file of the repository, as an operator would set it up; `ask` has every right."""
    text = ACL.read_text().replace("#" + "0" * 64, f">{PASSWORD}")
    acl = tmp_path / "users.acl"
    acl.write_text(text.replace("user default reset", "user default on nopass ~* &* +@all"))
    one = Engine(str(find_engine()), port=free_port(), options=("--aclfile", str(acl))).start()
    yield one
    one.remove()


def address(engine: Engine) -> str:
    """As the hub's own user."""
    return f"redis://hub:{PASSWORD}@127.0.0.1:{engine.port}"


def refused(engine: Engine) -> set[str]:
    """What the store refused: commands, keys, channels."""
    entries = [dict(zip(one[::2], one[1::2], strict=True)) for one in engine.ask("ACL", "LOG")]
    return {f"{one[b'reason'].decode()} {one[b'object'].decode()}" for one in entries}


def sent(engine: Engine) -> set[str]:
    """Commands that the store has carried out."""
    text = engine.ask("INFO", "commandstats").decode()
    return {name for name, calls in re.findall(r"cmdstat_([\w|]+):calls=(\d+)", text) if int(calls)}


def test_the_file_is_made_of_the_list() -> None:
    """docs/stack/users.acl is what the program needs; nobody can log in before a password is set."""
    assert ACL.read_text() == acl_file("hub")
    assert "nopass" not in ACL.read_text()
    assert "#" + "0" * 64 in ACL.read_text()
    assert rules("other")[1] == "~other:*"
    assert set(SOMETIMES) <= set(NEEDED)


# Words in the source that are written like commands.
WORDS = {
    "COUNT",
    "LIMIT",
    "LOAD",
    "MATCH",
    "NX",
    "OK",
    "PX",
    "SLOTS",
    "SETNAME",
    "WITHSCORES",
    "XX",
    "DRYRUN",
    "WHOAMI",
    "GET",
}
NOT_FOR_THE_HUB = {
    "AUTH",
    "CONFIG",
    "SENTINEL",
    "MASTER",
}  # needs no right; for doctor, which may be refused; of Sentinels


def test_every_command_of_the_source_is_in_the_list() -> None:
    """Whoever sends a command that the hub hasn't sent before adds it to the list, whether the tour comes there or not."""
    python = "".join(
        path.read_text() for path in (ROOT / "hub").rglob("*.py") if path.name not in ("doctor.py", "access.py")
    )
    lua = "".join(path.read_text() for path in (ROOT / "hub").rglob("*.lua"))
    found = set(re.findall(r'[(\[] ?b"([A-Z]{3,})"', python)) | set(re.findall(r"redis\.p?call\('(\w+)'", lua))
    found |= set(re.findall(r'^\s+b"([A-Z]{3,})",$', python, flags=re.M))
    known = {name.partition("|")[0].upper() for name in NEEDED}
    assert {name.upper() for name in found} - known - WORDS - NOT_FOR_THE_HUB == set()
    assert len(found) > 30


async def erased(engine: Engine) -> None:
    """Wait until an ended conversation has gone from the store."""
    await asyncio.to_thread(wait_until, lambda: "unlink" in sent(engine), "erased")


async def test_the_hub_needs_exactly_this(engine: Engine, tmp_path: Path) -> None:
    """
    A tour through everything: the store refuses nothing, and each command of the list is sent, or has its occasion named.

    Then commands are taken away, each by itself: the store refuses it to the hub, so none of them is there for nothing.
    """
    hub = HubProcess(tmp_path / "hub", redis_url=address(engine), config=SHORT).start()
    centre = Centre(hub)
    try:
        engine.ask("CONFIG", "RESETSTAT")
        await Tour(centre, lambda what: re.sub(r"\W", "_", what)).all()
        await erased(engine)
        assert refused(engine) == set()
        start = {"client|setname", "script|load", "role", "ssubscribe"}  # sent before the statistics were reset
        unsent = set(NEEDED) - sent(engine) - set(SOMETIMES) - start
        assert unsent == set(), "the list has what the hub doesn't send"
        seed = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
        names = sorted(set(NEEDED) - set(SOMETIMES))
        if not os.environ.get("SOAK_ACL"):
            names = random.Random(seed).sample(names, 1)
        print(f"seed {seed}: without {', '.join(names)}")
        for number, name in enumerate(names):
            await without(engine, centre, name, f"day{number}")
    finally:
        await centre.close()
        hub.kill()


async def test_delivery_needs_no_more(engine: Engine, tmp_path: Path) -> None:
    """What is sent, given up, looked at, put back and dropped: the store refuses nothing of it."""

    async def unwilling(call: Call, _times: int) -> Reply:
        return Reply(410) if call.json["data"]["text"] == "bad" else Reply()

    async with providing(habit=unwilling) as provider:
        table = open_table("platform", "acme", provider.url, provider.secrets[0])
        config = open_config(table, limits="dead_letters_max = 1\n" + SHORT.removeprefix(CONFIG))
        hub = HubProcess(tmp_path / "hub", redis_url=address(engine), config=config).start()
        centre = Centre(hub, org="acme")
        try:
            story, agent = await centre.story(), await centre.agent()
            for number, text in enumerate(("good", "bad", "bad", "good")):
                name = f"c{number}"
                ok = await agent.command("message.send", conversation_id=story.id, text=text, client_message_id=name)
                await agent.expect("message.receipt", story.id, message_id=ok["message_id"])
            bearer = {"authorization": f"Bearer {centre.token('olga', 'admin')}"}
            url = f"{hub.url}/v1/outbox"
            [letter] = (await centre.http.get(url, headers=bearer)).json()["actions"]
            assert (await centre.http.post(f"{url}/{letter['id']}/retry", headers=bearer)).status_code == 200
            await eventually(lambda: given_up_again(centre, url, bearer), wanted="a dead letter again")
            await story.end()
            await erased(engine)
            assert refused(engine) == set()
            assert "zcard" in sent(engine), "the list has what delivery doesn't send"
        finally:
            await centre.close()
            hub.kill()


async def given_up_again(centre: Centre, url: str, bearer: dict[str, str]) -> bool:
    """True while there is a dead letter."""
    return len((await centre.http.get(url, headers=bearer, params={"state": "dead"})).json()["actions"]) == 1


async def without(engine: Engine, main: Centre, name: str, org: str) -> None:
    """Take a command away, and live a day: the store refuses that one."""
    engine.ask("ACL", "LOG", "RESET")
    engine.ask("ACL", "SETUSER", "hub", f"-{name}")
    centre = Centre(main.hub, org=f"{org}-{random.randrange(1 << 30)}")
    engine.ask("CLIENT", "KILL", "USER", "hub")  # what is sent at the beginning of a connection is sent again
    day = asyncio.create_task(Tour(centre, lambda what: re.sub(r"\W", "_", what)).all())
    try:
        async with asyncio.timeout(20):
            while f"command {name}" not in refused(engine):
                await asyncio.sleep(0.02)
                if day.done():
                    day.exception()
                    day = asyncio.create_task(Tour(centre, lambda what: re.sub(r"\W", "_", what)).all())
    finally:
        day.cancel()
        await asyncio.gather(day, return_exceptions=True)
        engine.ask("ACL", "SETUSER", "hub", f"+{name}")
        for line in centre.opened:
            line.line.transport.abort()
        await centre.http.aclose()
        engine.ask("CLIENT", "KILL", "USER", "hub")

    async def ready() -> bool:
        return (await main.http.get(main.hub.url + "/readyz")).status_code == 200

    await eventually(ready, 20, "ready again")


def test_both_engines_take_the_file(engines: Engines) -> None:
    """Valkey, Redis and a Cluster understand each rule, and let that user do each command."""
    for node in engines.nodes:
        node.ask("ACL", "SETUSER", "hub", "reset", "on", *rules("hub"))
        allowed = [node.ask("ACL", "DRYRUN", "hub", *sample(name, "hub:{x}:key")) for name in NEEDED]
        assert dict(zip(NEEDED, allowed, strict=True)) == dict.fromkeys(NEEDED, b"OK")
        node.ask("ACL", "DELUSER", "hub")


@pytest.mark.parametrize("words", TOO_MUCH, ids=" ".join)
def test_the_hubs_user_may_nothing_else(engine: Engine, words: tuple[str, ...]) -> None:
    """With the hub's password nobody reads other keys, changes settings or users, or throws everything away."""
    words = tuple(word.replace("{key}", "hub:{x}:key") for word in words)
    assert b"no permissions" in engine.ask("ACL", "DRYRUN", "hub", *words)


# -- what doctor says


async def findings(url: str, subject: str) -> list[Finding]:
    """Doctor's findings about one subject of that store."""
    return [one async for one in examine(Settings(redis_url=url, token_secret=b"x" * 32)) if one.subject == subject]


async def test_doctor_on_rights(engine: Engine) -> None:
    """The hub's user is fine; the default one has every right; one that lacks something fails, by name; excess is named."""
    [fine] = await findings(address(engine), "rights")
    assert (fine.level, "and no more" in fine.text) == ("ok", True), fine
    [everything] = await findings(f"redis://127.0.0.1:{engine.port}", "rights")
    assert (everything.level, "every right" in everything.text) == ("warn", True), everything
    engine.ask("ACL", "SETUSER", "hub", "-xadd", "-wait", "+flushall")
    found = {one.level: one.text for one in await findings(address(engine), "rights")}
    assert "xadd" in found["fail"]
    assert "FLUSHALL" in found["warn"]
    engine.ask("ACL", "SETUSER", "hub", "+xadd", "-flushall", "resetkeys", "~elsewhere:*")
    keys = (await findings(address(engine), "rights"))[0]
    assert (keys.level, "hgetall" in keys.text) == ("fail", True), keys
    engine.ask("ACL", "SETUSER", "hub", "-acl|dryrun")
    [blind] = await findings(address(engine), "rights")
    assert (blind.level, "ACL DRYRUN" in blind.text) == ("warn", True), blind


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("redis://127.0.0.1:6379", "ok"),
        ("redis://[::1]:6379", "ok"),
        ("redis://localhost:6379", "ok"),
        ("unix:///run/store", "ok"),
        ("redis://10.0.0.7:6379", "warn"),
        ("redis://store:6379", "warn"),
        ("redis+sentinel://127.0.0.1:1,10.0.0.7:1/hub", "warn"),
        ("rediss://store:6379", "ok"),
        ("rediss://store:6379?ssl_cert_reqs=none", "warn"),
    ],
)
def test_doctor_on_the_way(url: str, level: str) -> None:
    """Plaintext is for this machine; TLS is worth something only where the certificate is looked at."""
    from hub.doctor import _way
    from hub.store.topology import parse_url

    assert [one.level for one in _way(parse_url(url))] == [level]


# -- TLS


class Authority:
    """A certificate authority for a test; `files` of a name: certificate and key, in `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._own = self._sign(name, self._key.public_key(), [], authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._own.public_bytes(serialization.Encoding.PEM))

    def _sign(
        self, name: str, public: ec.EllipticCurvePublicKey, hosts: list[x509.GeneralName], *, authority: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def files(self, name: str, hosts: list[x509.GeneralName]) -> tuple[Path, Path]:
        """Certificate and key, for `hosts`."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, secret = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(self._sign(name, key.public_key(), hosts).public_bytes(serialization.Encoding.PEM))
        pem = serialization.PrivateFormat.PKCS8
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption()))
        return certificate, secret


def tls_server() -> str:
    """A server that speaks TLS: Debian's; the embedded one doesn't."""
    binary = shutil.which("redis-server")
    libraries = subprocess.run(["ldd", str(binary)], capture_output=True, text=True).stdout if binary else ""
    if "libssl" not in libraries:
        assert os.environ.get("CI") != "true", "redis-server with TLS is missing: apt-get install redis-server"
        pytest.skip("redis-server with TLS is missing: apt-get install redis-server")
    return str(binary)


class Secured:
    """A server that speaks TLS alone, and wants certificates of its clients; its own is for 127.0.0.1, not for localhost."""

    def __init__(self, folder: Path) -> None:
        binary = tls_server()
        self.authority, self.stranger = Authority(folder, "ours"), Authority(folder, "strangers")
        certificate, key = self.authority.files("server", [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        self.client, self.key = self.authority.files("client", [])
        self.port = free_port()
        options = {
            "tls-port": str(self.port),
            "tls-cert-file": str(certificate),
            "tls-key-file": str(key),
            "tls-ca-cert-file": str(self.authority.file),
            "tls-auth-clients": "yes",
        }
        self.engine = Engine(
            binary, options=tuple(word for name, value in options.items() for word in (f"--{name}", value))
        )
        self.engine.start()

    def url(self, host: str = "127.0.0.1", **changed: str | Path | None) -> str:
        """Its address with everything right but for `changed`; None leaves an option out."""
        options: dict[str, str | Path | None] = {
            "ssl_ca_certs": self.authority.file,
            "ssl_certfile": self.client,
            "ssl_keyfile": self.key,
        }
        chosen = "&".join(f"{name}={value}" for name, value in (options | changed).items() if value is not None)
        return f"rediss://{host}:{self.port}?{chosen}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One for this module."""
    server = Secured(tmp_path_factory.mktemp("tls"))
    yield server
    server.engine.remove()


async def reached(url: str, within_s: float = 10.0) -> str:
    """Why the store can't be reached; empty where it can."""
    try:
        primaries = await Primaries.connect(url, start_s=within_s)
    except Unavailable as error:
        return str(error)
    await primaries.aclose()
    return ""


async def test_tls(secured: Secured) -> None:
    """The right authority and a client's certificate lead in; whatever is wrong with either keeps out, and says what."""
    assert await reached(secured.url()) == ""
    assert await reached(secured.url("localhost", ssl_ca_certs=None, ssl_cert_reqs="none")) == ""
    unasked, key = secured.stranger.files("stranger", [])
    wrong = {
        "another authority": secured.url(ssl_ca_certs=secured.stranger.file),
        "the system's authorities": secured.url(ssl_ca_certs=None),
        "another name": secured.url("localhost"),
        "no certificate": secured.url(ssl_certfile=None, ssl_keyfile=None),
        "a stranger's certificate": secured.url(ssl_certfile=unasked, ssl_keyfile=key),
        "plaintext": secured.url().replace("rediss://", "redis://"),
    }
    whys = await asyncio.gather(*(reached(url, 2.0) for url in wrong.values()))
    found = dict(zip(wrong, whys, strict=True))
    assert all(found.values()), found
    assert all("CERTIFICATE_VERIFY_FAILED" in why for why in list(found.values())[:3]), found


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"ssl_ca_certs": "/nowhere/ca.pem"}, "ssl_ca_certs /nowhere/ca.pem can't be read: No such file"),
        ({"ssl_keyfile": "/nowhere/key.pem"}, "ssl_keyfile /nowhere/key.pem can't be read: No such file"),
        ({"ssl_cert_reqs": "optional"}, "ssl_cert_reqs is neither required nor none"),
    ],
)
async def test_wrong_tls_options(secured: Secured, changed: dict[str, str], why: str) -> None:
    """What can't be used is named, before anything is connected."""
    with pytest.raises(ValueError, match=re.escape(why)):
        await Primaries.connect(secured.url(**changed))


async def test_a_hub_over_tls(secured: Secured, tmp_path: Path) -> None:
    """A whole hub on it: commands, scripts and the subscription; `hub doctor` is content with the way."""
    hub = HubProcess(tmp_path / "hub", redis_url=secured.url()).start()
    centre = Centre(hub)
    try:
        ana, story = await centre.supervisor(), await centre.story()
        await story.monitored_by(ana)
        await story.customer_says("over TLS")
        await ana.expect("message.created", story.id, text="over TLS")
        [way] = await findings(secured.url(), "store way")
        assert (way.level, way.text) == ("ok", "TLS, certificate checked")
    finally:
        await centre.close()
        hub.kill()
