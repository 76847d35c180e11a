"""What a hub's configuration says of an identity provider, and of signing in with it."""

import json
from collections.abc import Sequence

from tests.support.openid_provider import CLIENT
from tests.support.processes import CONFIG

ORG = "acme"  # whose people every provider here speaks of, unless said otherwise
ALL = ("*",)


def grant(value: str, role: str = "", claim: str | Sequence[str] = "groups", **lists: Sequence[str]) -> str:
    """One `[[issuers.grants]]`; `lists` are its permissions, queues and divisions."""
    lines = ["[[issuers.grants]]", f"claim = {json.dumps(claim)}", f'value = "{value}"']
    lines += [f'role = "{role}"'] if role else []
    return "\n".join([*lines, *(f"{name} = {json.dumps(list(words))}" for name, words in lists.items())]) + "\n\n"


SUPERVISORS = grant(
    *("cc-supervisors", "supervisor"),
    permissions=("view", "monitor", "takeover", "history"), queues=ALL, divisions=ALL,
)  # fmt: skip
AGENTS = grant("cc-agents", "agent", queues=ALL, divisions=ALL)


def issuer_table(issuer: str, *grants: str, keys: str = "keys", more: Sequence[str] = (f'org = "{ORG}"',)) -> str:
    """One `[[issuers]]` with its grants; `keys` is the path of its keys, `more` are lines of it."""
    lines = ["\n[[issuers]]", f'issuer = "{issuer}"', f'jwks_url = "{issuer}/{keys}"', *more]
    return "\n".join(lines) + "\n\n" + "".join(grants)


def sign_in_config(issuer: str, public: str, *grants: str, keys: str = "keys", limits: str = "") -> str:
    """
    The configuration of a hub that browsers reach at `public` and whose people sign in there with that issuer.

    Supervisors and agents may, and whom more `grants` speak of; `limits` are lines of `[limits]`.
    """
    table = issuer_table(issuer, SUPERVISORS, AGENTS, *grants, keys=keys)
    sign_in = f'[sign_in]\nissuer = "{issuer}"\nclient_id = "{CLIENT}"\n'
    return f'public_url = "{public}"\n{CONFIG}{limits}{table}{sign_in}'  # CONFIG's last table is [limits]
