"""
What the claims of an identity provider's token mean here: pure, by rules that the configuration gives each issuer.

    hub_claims(claims, rules)   the claims as a token of the hub's own would have them

Where an issuer has grants, role and rights come from them alone: what else its tokens say of rights is not believed.
Every claim may be anything at all, since it was written elsewhere: what isn't of the expected form grants nothing, or
is left for the checks that tokens of the hub's own pass, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from hub.domain.errors import Refused
from hub.domain.grants import EVERYTHING, ROLES

ClaimPath = tuple[str, ...]  # ("groups",), or ("realm_access", "roles") for a claim within another
CARRIED: Final = ("iss", "aud", "exp", "iat", "nbf", "jti", "conversation")  # mean the same everywhere


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Which claim of an issuer's tokens says what; the names are those of the hub's own tokens where not said."""

    sub: ClaimPath = ("sub",)
    name: ClaimPath = ("name",)
    org: ClaimPath = ("org",)
    role: ClaimPath = ("role",)
    permissions: ClaimPath = ("permissions",)
    queues: ClaimPath = ("queues",)
    divisions: ClaimPath = ("divisions",)


@dataclass(frozen=True, slots=True)
class Grant:
    """
    What whoever has `value` in the claim `claim` may: the claim is that text, or a list that holds it.

    `role` empty: the grant adds rights to a role that another grant gives.
    """

    claim: ClaimPath
    value: str
    role: str = ""
    permissions: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()
    divisions: frozenset[str] = frozenset()

    def matches(self, claims: Mapping[str, Any]) -> bool:
        """True where these claims have the value."""
        found = claim_at(claims, self.claim)
        return found == self.value if isinstance(found, str) else isinstance(found, list) and self.value in found


@dataclass(frozen=True, slots=True)
class IssuerRules:
    """
    What an issuer may say, and how it says it.

    `org`: everybody it speaks of belongs there, whatever its tokens say. Else `organizations` are those that its tokens
    may name (`*`: any); with neither it speaks for nobody. `roles` are those that it may give.
    """

    org: str = ""
    organizations: frozenset[str] = frozenset()
    roles: frozenset[str] = ROLES
    claims: ClaimNames = ClaimNames()
    grants: tuple[Grant, ...] = ()


def claim_at(claims: Mapping[str, Any], path: ClaimPath) -> Any:
    """The claim at a path; None where there is none."""
    found: Any = claims
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return found


def hub_claims(claims: Mapping[str, Any], rules: IssuerRules) -> dict[str, Any]:
    """
    Verified claims of an issuer as the hub's own tokens have them.

    Several matching grants add up; the role is that of the first one that has any.

    Raises:
        Refused: `unauthenticated` where the issuer may not speak for that organization or role; `not_permitted` where
            none of its grants is this person's. Neither names anything of the token.
    """
    mapped = {name: claims[name] for name in CARRIED if name in claims}
    for field in fields(rules.claims):
        found = claim_at(claims, getattr(rules.claims, field.name))
        if found is not None:
            mapped[field.name] = found
    if rules.grants:
        mapped |= _granted(claims, rules.grants)
    if rules.org:
        mapped["org"] = rules.org
    elif EVERYTHING not in rules.organizations and not _among(mapped.get("org"), rules.organizations):
        raise _unauthenticated("its issuer doesn't speak for that organization")
    if not _among(mapped.get("role"), rules.roles):
        raise _unauthenticated("its issuer may not give that role")
    return mapped


def _granted(claims: Mapping[str, Any], grants: tuple[Grant, ...]) -> dict[str, Any]:
    """Role and rights of the grants that these claims match."""
    matching = [grant for grant in grants if grant.matches(claims)]
    role = next((grant.role for grant in matching if grant.role), "")
    if not role:
        raise Refused("not_permitted", "Nothing here is granted to this person: no group of theirs has a role.")
    return {
        "role": role,
        "permissions": sorted({one for grant in matching for one in grant.permissions}),
        "queues": sorted({one for grant in matching for one in grant.queues}),
        "divisions": sorted({one for grant in matching for one in grant.divisions}),
    }


def _among(value: object, allowed: frozenset[str]) -> bool:
    return isinstance(value, str) and value in allowed


def _unauthenticated(why: str) -> Refused:
    return Refused("unauthenticated", f"The token was refused: {why}.")
