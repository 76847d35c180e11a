"""Who the sockets of a load test are: made by a secret, or read from a file."""

import json
from pathlib import Path

import jwt
import pytest

from clients.load.credentials import Credentials, CredentialsError, credentials_of, read_tokens
from tests.support.tokens import token

SECRET = "0123456789abcdef0123456789abcdef"


def test_a_secret_makes_as_many_people_as_wanted() -> None:
    """Each is somebody else, of the run's own organization, with the rights of the role."""
    made = Credentials(SECRET)
    people = [made.next_person("supervisor") for _ in range(3)]
    assert len({person.user_id for person in people}) == 3
    claims = jwt.decode(people[0].token, SECRET, algorithms=["HS256"], audience="hub")
    assert (claims["sub"], claims["org"], claims["role"]) == (people[0].user_id, made.org, "supervisor")
    assert "takeover" in claims["permissions"]
    assert made.has("agent", 1_000_000)


def test_a_file_of_supervisors(tmp_path: Path) -> None:
    """One token a line; they are given out in turn, again and again."""
    file = tmp_path / "tokens"
    file.write_text("\n".join([token("ana", "supervisor", "acme"), "", token("bo", "supervisor", "acme"), ""]))
    read = read_tokens(file)
    assert read.org == "acme"
    assert [read.next_person("supervisor").user_id for _ in range(3)] == ["ana", "bo", "ana"]
    assert read.has("supervisor", 100)
    assert not read.has("connector", 1)
    with pytest.raises(CredentialsError, match="connector"):
        read.next_person("connector")


def test_a_file_of_roles() -> None:
    """JSON lines say the role; an agent is never two sockets."""
    agents = [json.dumps({"role": "agent", "token": token(name, "agent", "acme")}) for name in ("max", "kim")]
    read = credentials_of([*agents, token("ana", "supervisor", "acme")])
    assert read.has("agent", 2)
    assert not read.has("agent", 3)
    assert [read.next_person("agent").user_id for _ in range(2)] == ["max", "kim"]
    with pytest.raises(CredentialsError, match="2 tokens of role agent"):
        read.next_person("agent")


def test_a_secret_adds_to_a_file() -> None:
    """Who isn't in the file is made in its organization."""
    read = credentials_of([token("ana", "supervisor", "acme")], SECRET)
    claims = jwt.decode(read.next_person("connector").token, SECRET, algorithms=["HS256"], audience="hub")
    assert (claims["org"], claims["role"]) == ("acme", "connector")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "no token"),
        (["", " "], "no token"),
        (["abc"], "line 1 isn't a token"),
        (['{"role": "agent"}'], "line 1 isn't"),
        (["{"], "line 1 isn't"),
        ([token("ana", "supervisor", "acme"), token("bo", "supervisor", "other")], "several organizations"),
        ([jwt.encode({"org": "acme"}, SECRET)], "no `sub`"),
    ],
)
def test_files_that_are_refused(lines: list[str], why: str) -> None:
    """The refusal names the line, and no token."""
    with pytest.raises(CredentialsError, match=why):
        credentials_of(lines)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The refusal names the file."""
    with pytest.raises(CredentialsError, match="nowhere"):
        read_tokens(tmp_path / "nowhere")
