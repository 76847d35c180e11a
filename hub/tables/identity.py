"""`[[issuers]]`, who may say who people are, and `[sign_in]`, how they sign in in a browser."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.domain.claims import ClaimNames, ClaimPath, Grant, IssuerRules
from hub.domain.grants import PERMISSIONS, ROLES
from hub.tables.document import Document, SettingsError, TablePath, ids_of, one_of, texts_of, wrong
from hub.tables.secrets import secret_of


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """
    An identity provider whose tokens are taken; its keys (JWKS) come from exactly one of URL and file.

    `audience` is what its tokens call this hub (`aud`); `rules` say whom it may speak for, and what its claims mean.
    """

    issuer: str
    jwks_url: str | None = None
    jwks_file: Path | None = None
    audience: str = "hub"
    rules: IssuerRules = field(default_factory=IssuerRules)


@dataclass(frozen=True, slots=True)
class SignInSettings:
    """
    How people sign in in a browser: with which of the issuers (OpenID Connect), and as which of its clients.

    `public_url` is the setting of that name, here the hub's own origin as browsers see it, without a path. `client_secret`
    None: a public client.
    `discovery_url` is where the issuer describes itself.
    """

    issuer: str
    client_id: str
    public_url: str
    discovery_url: str
    client_secret: bytes | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = ("openid", "profile")

    @property
    def secure(self) -> bool:
        """True where browsers reach the hub by https, so that cookies are for that alone."""
        return self.public_url.startswith("https://")


def issuers_of(document: Document) -> tuple[IssuerSettings, ...]:
    """`[[issuers]]`, in the file's order."""
    listed = document.values["issuers"]
    at = document.at(("issuers",))
    if not isinstance(listed, list):
        raise wrong(at, "issuers", listed, "tables that begin with [[issuers]]")
    issuers = tuple(_issuer(document, index) for index in range(len(listed)))
    names = [issuer.issuer for issuer in issuers]
    if len(set(names)) < len(names):
        raise SettingsError(f"{at}: the same issuer stands there twice; each is allowed once")
    return issuers


def _issuer(document: Document, index: int) -> IssuerSettings:
    path: TablePath = ("issuers", index)
    table = document.entry(path, _ISSUER_KEYS)
    name = document.text(path, "issuer")
    if name == "hub":
        raise wrong(document.at((*path, "issuer")), "issuer", name, "another name: `hub` is the hub's own secret")
    if ("jwks_url" in table) == ("jwks_file" in table):
        raise SettingsError(f"{document.at(path)}: an issuer needs either jwks_url or jwks_file")
    audience, rules = document.text(path, "audience", "hub"), _rules(document, path, table)
    if "jwks_file" in table:
        file = document.beside(document.text(path, "jwks_file"))
        return IssuerSettings(issuer=name, jwks_file=file, audience=audience, rules=rules)
    url = document.text(path, "jwks_url")
    if not re.match(r"https?://[^/\s]", url):
        raise wrong(document.at((*path, "jwks_url")), "jwks_url", url, "an address that begins with https://")
    return IssuerSettings(issuer=name, jwks_url=url, audience=audience, rules=rules)


_ISSUER_KEYS = ("issuer", "jwks_url", "jwks_file", "audience", "org", "organizations", "roles", "claims", "grants")
_CLAIM_NAMES = tuple(f.name for f in dataclasses.fields(ClaimNames))
_GRANT_KEYS = tuple(f.name for f in dataclasses.fields(Grant))
_RIGHTS = ("role", "permissions", "queues", "divisions")


def _rules(document: Document, path: TablePath, table: Mapping[str, Any]) -> IssuerRules:
    """The rules of one issuer; one that may speak for no organization is refused."""
    if ("org" in table) == ("organizations" in table):
        raise SettingsError(
            f"{document.at(path)}: an issuer needs either `org` (everybody it speaks of belongs there) or "
            f'`organizations` (those that its tokens may name; ["*"]: any)'
        )
    organizations = ids_of(table.get("organizations", []), "organizations", document.at((*path, "organizations")))
    if "organizations" in table and not organizations:
        raise wrong(document.at((*path, "organizations")), "organizations", [], 'ids, or ["*"] for any')
    roles = _listed(document, path, table, "roles", ROLES) if "roles" in table else ROLES
    if not roles:
        raise wrong(document.at((*path, "roles")), "roles", [], one_of(sorted(ROLES)))
    names, grants = _claim_names(document, path), _grants(document, path)
    if grants:
        for name in _RIGHTS:
            if name in document.table((*path, "claims")):
                at = document.at((*path, "claims", name))
                raise SettingsError(f"{at}: `{name}` comes from the grants, which this issuer has; remove one of both")
    for index, grant in enumerate(grants):
        if grant.role and grant.role not in roles:
            at = document.at((*path, "grants", index, "role"))
            raise wrong(at, "role", grant.role, f"one of the issuer's roles: {one_of(sorted(roles))}")
    return IssuerRules(document.id(path, "org", ""), frozenset(organizations), roles, names, grants)


def _listed(
    document: Document, path: TablePath, table: Mapping[str, Any], key: str, allowed: frozenset[str]
) -> frozenset[str]:
    """A list of known words."""
    at = document.at((*path, key))
    words = texts_of(table.get(key, []), key, at)
    for word in words:
        if word not in allowed:
            raise wrong(at, key, word, one_of(sorted(allowed)))
    return frozenset(words)


def _claim_names(document: Document, path: TablePath) -> ClaimNames:
    """`[issuers.claims]`: which claim says what."""
    path = (*path, "claims")
    if not document.table(path):
        return ClaimNames()
    table = document.entry(path, _CLAIM_NAMES)
    if "org" in table and "org" in document.get(path[:-1]):
        raise SettingsError(f"{document.at((*path, 'org'))}: the issuer has a fixed `org`; remove one of both")
    return ClaimNames(**{name: _claim_path(value, name, document.at((*path, name))) for name, value in table.items()})


def _claim_path(value: object, key: str, at: str) -> ClaimPath:
    """The name of a claim, or the names that lead to one within another."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise wrong(at, key, value, 'the name of a claim, or a list like ["realm_access", "roles"]')
    return tuple(names)


def _grants(document: Document, path: TablePath) -> tuple[Grant, ...]:
    """`[[issuers.grants]]`, in the file's order."""
    listed = document.get(path).get("grants", [])
    if not isinstance(listed, list):
        at = document.at((*path, "grants"))
        raise wrong(at, "grants", listed, "tables that begin with [[issuers.grants]]")
    return tuple(_grant(document, (*path, "grants", index)) for index in range(len(listed)))


def _grant(document: Document, path: TablePath) -> Grant:
    table = document.entry(path, _GRANT_KEYS)
    if "claim" not in table:
        raise SettingsError(f"{document.at(path)}: `claim` is missing")
    if not any(table.get(name) for name in _RIGHTS):
        raise SettingsError(f"{document.at(path)}: a grant needs one of {one_of(_RIGHTS)}")
    role = document.text(path, "role") if "role" in table else ""
    if role and role not in ROLES:
        raise wrong(document.at((*path, "role")), "role", role, one_of(sorted(ROLES)))
    return Grant(
        claim=_claim_path(table["claim"], "claim", document.at((*path, "claim"))),
        value=document.text(path, "value"),
        role=role,
        permissions=_listed(document, path, table, "permissions", PERMISSIONS),
        queues=frozenset(ids_of(table.get("queues", []), "queues", document.at((*path, "queues")))),
        divisions=frozenset(ids_of(table.get("divisions", []), "divisions", document.at((*path, "divisions")))),
    )


_SIGN_IN_KEYS = ("issuer", "client_id", "client_secret_file", "discovery_url", "scopes")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def sign_in_of(
    document: Document,
    env: Mapping[str, str],
    read: Callable[[Path], bytes],
    issuers: Sequence[IssuerSettings],
    public_url: tuple[str, str],
) -> SignInSettings:
    """
    `[sign_in]`; the client's secret is that of the environment, else of the file it names, else there is none.

    `public_url` is the setting of that name, and where it stands (empty both where it doesn't).
    """
    path: TablePath = ("sign_in",)
    table = document.table(path)
    if "client_secret" in table:
        at = document.at((*path, "client_secret"))
        raise SettingsError(f"{at}: a secret doesn't stand in this file; use HUB_SIGN_IN_SECRET or client_secret_file")
    if "public_url" in table:
        at = document.at((*path, "public_url"))
        raise SettingsError(f"{at}: `public_url` belongs to the top of the file, before the first [table]")
    document.entry(path, _SIGN_IN_KEYS)
    issuer = document.text(path, "issuer")
    if issuer not in [one.issuer for one in issuers]:
        known = one_of([one.issuer for one in issuers]) or "none is configured"
        raise wrong(document.at((*path, "issuer")), "issuer", issuer, f"one of [[issuers]]: {known}")
    scopes = texts_of(table.get("scopes", ["openid", "profile"]), "scopes", document.at((*path, "scopes")))
    if "openid" not in scopes or not all(re.fullmatch(r"[!#-\[\]-~]+", scope) for scope in scopes):
        raise wrong(document.at((*path, "scopes")), "scopes", list(scopes), "a list of words, one of them openid")
    discovery = document.text(path, "discovery_url", issuer.rstrip("/") + "/.well-known/openid-configuration")
    if not re.match(r"https?://[^/\s]", discovery):
        at = document.at((*path, "discovery_url" if "discovery_url" in table else "issuer"))
        raise wrong(at, "discovery_url", discovery, "an address that begins with https://")
    return SignInSettings(
        issuer=issuer,
        client_id=document.text(path, "client_id"),
        public_url=_sign_in_origin(document, *public_url),
        discovery_url=discovery,
        client_secret=_client_secret(document, path, env, read),
        scopes=scopes,
    )


def _sign_in_origin(document: Document, url: str, at: str) -> str:
    """An origin, written as browsers write it, since it is compared with what they say."""
    if not url:
        missing = "`public_url` is missing at the top of the file: the hub's origin as browsers see it"
        raise SettingsError(f"{document.at(('sign_in',))}: signing in needs it, but {missing}")
    found = re.fullmatch(r"(https?)://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(?::([1-9][0-9]{0,4}))?", url)
    if not found or found[3] == {"https": "443", "http": "80"}[found[1]]:
        wanted = (
            "with [sign_in] an origin like https://hub.example.com: small letters, no path, no port but an unusual one"
        )
        raise wrong(at, "public_url", url, wanted)
    if found[1] == "http" and found[2] not in _LOOPBACK:
        raise wrong(at, "public_url", url, "with [sign_in] https://, or http:// of this very machine")
    return url


def _client_secret(
    document: Document, path: TablePath, env: Mapping[str, str], read: Callable[[Path], bytes]
) -> bytes | None:
    found = secret_of(document, env, read, "HUB_SIGN_IN_SECRET", path, "client_secret_file")
    if found is None:
        return None
    secret, at = found
    if not re.fullmatch(rb"[ -~]+", secret):
        raise SettingsError(f"{at}: the client's secret is empty, or has other characters than ASCII's printable ones")
    return secret
