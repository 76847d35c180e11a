"""Tokens as an identity provider would make them."""

import time
import uuid
from typing import Any

import jwt

from tests.support.processes import SECRET

ALL = ("view", "monitor", "takeover", "release", "history")


def claims(sub: str, role: str, org: str, **changed: Any) -> dict[str, Any]:
    """
    The claims of a valid token, some of them changed; one that is changed to None is left out.

    `permissions`, `queues`, `divisions` are lists of ids; `ttl` is in seconds.
    """
    now = int(time.time())
    everything: dict[str, Any] = {
        "sub": sub,
        "name": sub.capitalize(),
        "org": org,
        "role": role,
        "permissions": list(ALL) if role in {"supervisor", "admin"} else [],
        "queues": ["*"],
        "divisions": ["*"],
        "iat": now,
        "exp": now + changed.pop("ttl", 3600),
        "iss": "hub",
        "aud": "hub",
        "jti": uuid.uuid4().hex,
    }
    return {name: value for name, value in (everything | changed).items() if value is not None}


def token(sub: str, role: str, org: str, *, secret: str = SECRET, algorithm: str = "HS256", **changed: Any) -> str:
    """A signed token; see `claims`."""
    return jwt.encode(claims(sub, role, org, **changed), secret, algorithm=algorithm)
