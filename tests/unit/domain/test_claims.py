"""What an identity provider's claims mean: by names, by grants, and within what the issuer may say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.claims import CARRIED, ClaimNames, Grant, IssuerRules, claim_at, hub_claims
from hub.domain.errors import Refused
from hub.domain.grants import PERMISSIONS, ROLES

ANY = frozenset("*")
USUAL = {"sub": "ana", "name": "Ana", "org": "acme", "role": "supervisor", "permissions": ["view"], "queues": ["*"]}
SUPERVISORS = Grant(("groups",), "cc-supervisors", "supervisor", frozenset({"view", "monitor"}), ANY, ANY)
AGENTS = Grant(("groups",), "cc-agents", "agent", queues=frozenset({"support"}))
SENIORS = Grant(("realm_access", "roles"), "senior", permissions=frozenset({"takeover"}))


def refused(claims: dict[str, Any], rules: IssuerRules) -> str:
    """The code of the refusal; its message has nothing of the claims."""
    with pytest.raises(Refused) as found:
        hub_claims(claims, rules)
    assert not found.value.details
    return found.value.code


def test_claims_of_the_hubs_own_form() -> None:
    """Without names and grants the claims are taken as they are; what nobody asked for is left out."""
    claims = USUAL | {"exp": 2, "iat": 1, "iss": "i", "aud": "hub", "jti": "t", "secret": "x"}
    assert hub_claims(claims, IssuerRules(organizations=ANY)) == {k: v for k, v in claims.items() if k != "secret"}


def test_claims_of_other_names() -> None:
    """Each claim can be read from another one, also from one within another."""
    names = ClaimNames(sub=("oid",), name=("display", "full"), org=("tid",))
    claims = USUAL | {"oid": "o-1", "display": {"full": "Ana Ortiz"}, "tid": "t-1"}
    found = hub_claims(claims, IssuerRules(organizations=frozenset({"t-1"}), claims=names))
    assert (found["sub"], found["name"], found["org"]) == ("o-1", "Ana Ortiz", "t-1")


def test_a_missing_claim_is_not_taken_from_the_usual_one() -> None:
    """Where the id is said to stand elsewhere, `sub` is nobody's id."""
    assert "sub" not in hub_claims(USUAL, IssuerRules(organizations=ANY, claims=ClaimNames(sub=("oid",))))


def test_grants_add_up() -> None:
    """Rights of all matching grants are the person's; the role is the first one's that has any."""
    rules = IssuerRules("acme", grants=(SENIORS, SUPERVISORS, AGENTS))
    claims = {"groups": ["x", "cc-agents", "cc-supervisors"], "realm_access": {"roles": ["senior"]}}
    found = hub_claims(claims, rules)
    assert found["role"] == "supervisor"
    assert found["permissions"] == ["monitor", "takeover", "view"]
    assert found["queues"] == ["*", "support"]
    assert hub_claims({"groups": "cc-agents"}, rules)["role"] == "agent"


@pytest.mark.parametrize(
    "groups",
    [
        None,
        [],
        "cc-",
        ["CC-SUPERVISORS"],
        ["cc-supervisors "],
        {"cc-supervisors": 1},
        7,
        [["cc-supervisors"]],
        "x cc-agents",
    ],
)
def test_nothing_matches(groups: Any) -> None:
    """Values match whole or not at all; a claim of another form matches nothing: `not_permitted`."""
    assert refused(USUAL | {"groups": groups}, IssuerRules("acme", grants=(SUPERVISORS, AGENTS))) == "not_permitted"


def test_a_grant_without_a_role_lets_nobody_in() -> None:
    """Rights without a role are nobody's."""
    claims = USUAL | {"realm_access": {"roles": ["senior"]}}
    assert refused(claims, IssuerRules("acme", grants=(SENIORS, AGENTS))) == "not_permitted"


@pytest.mark.parametrize("org", [None, "other", "ACME", "acme ", "", ["acme"], {"acme": 1}, 7, "*"])
def test_other_organizations(org: Any) -> None:
    """An issuer that is limited to organizations is believed for exactly those."""
    assert refused(USUAL | {"org": org}, IssuerRules(organizations=frozenset({"acme"}))) == "unauthenticated"


def test_an_issuer_without_organizations_speaks_for_nobody() -> None:
    """Whom an issuer may speak for must be said."""
    assert refused(dict(USUAL), IssuerRules()) == "unauthenticated"


def test_a_fixed_organization_is_everybodys() -> None:
    """What the token says of its organization counts for nothing where the configuration says it."""
    assert hub_claims(USUAL | {"org": "other"}, IssuerRules("acme"))["org"] == "acme"


@pytest.mark.parametrize("role", [None, "admin", ["agent"], "Agent", "root"])
def test_other_roles(role: Any) -> None:
    """An issuer that is limited to roles gives exactly those."""
    assert refused(USUAL | {"role": role}, IssuerRules("acme", roles=frozenset({"agent"}))) == "unauthenticated"


def test_paths_through_what_is_no_object() -> None:
    """A path through a list, a text or nothing leads nowhere."""
    for claims in ({}, {"a": None}, {"a": ["b"]}, {"a": "b"}, {"a": {"c": 1}}):
        assert claim_at(claims, ("a", "b")) is None


json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["acme", "cc-agents", "admin", "*"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["roles", "a"]), inner, max_size=3),
    max_leaves=12,
)
some_claims = st.dictionaries(
    st.sampled_from(
        ["sub", "name", "org", "role", "permissions", "queues", "divisions", "groups", "exp", "realm_access"]
    ),
    json,
    max_size=8,
)
words = st.frozensets(st.sampled_from(["a", "b", "*"]), max_size=3)
some_grants = st.builds(
    Grant,
    claim=st.sampled_from([("groups",), ("realm_access", "roles")]),
    value=st.sampled_from(["cc-agents", "admin", "acme"]),
    role=st.sampled_from(["", *sorted(ROLES)]),
    permissions=st.frozensets(st.sampled_from(sorted(PERMISSIONS)), max_size=3),
    queues=words,
    divisions=words,
)
some_rules = st.builds(
    IssuerRules,
    org=st.sampled_from(["", "acme"]),
    organizations=st.frozensets(st.sampled_from(["acme", "other", "*"]), max_size=2),
    roles=st.frozensets(st.sampled_from(sorted(ROLES)), max_size=3),
    grants=st.lists(some_grants, max_size=4).map(tuple),
)


@given(some_claims, some_rules)
def test_no_claims_say_more_than_the_rules_allow(claims: dict[str, Any], rules: IssuerRules) -> None:
    """Whatever the claims are: refused, or an organization and a role that the issuer may give, and granted rights only."""
    try:
        found = hub_claims(claims, rules)
    except Refused:
        return
    assert found["role"] in rules.roles
    assert found["org"] == rules.org if rules.org else "*" in rules.organizations or found["org"] in rules.organizations
    assert set(found) <= {"sub", "name", "org", "role", "permissions", "queues", "divisions", *CARRIED}
    if rules.grants:
        matching = [grant for grant in rules.grants if grant.matches(claims)]
        for right in ("permissions", "queues", "divisions"):
            assert set(found[right]) == {one for grant in matching for one in getattr(grant, right)}


@given(some_claims, st.lists(some_grants, max_size=4), some_grants)
def test_another_grant_takes_nothing_away(claims: dict[str, Any], grants: list[Grant], more: Grant) -> None:
    """With one more grant at the end a person keeps their role and every right."""
    try:
        before = hub_claims(claims, IssuerRules("acme", grants=tuple(grants) or (AGENTS,)))
    except Refused:
        return
    after = hub_claims(claims, IssuerRules("acme", grants=(*(grants or [AGENTS]), more)))
    assert after["role"] == before["role"]
    for right in ("permissions", "queues", "divisions"):
        assert set(before[right]) <= set(after[right])
