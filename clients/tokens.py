"""Tokens of the hub's own secret (protocol, section 1), for demos, simulations and load tests."""

import time
from collections.abc import Sequence

import jwt

EVERYTHING = ("*",)
SUPERVISOR_PERMISSIONS = ("view", "monitor", "takeover", "history")


def make_token(
    secret: str,
    role: str,
    sub: str,
    name: str = "",
    *,
    org: str = "demo",
    permissions: Sequence[str] = (),
    queues: Sequence[str] = EVERYTHING,
    divisions: Sequence[str] = EVERYTHING,
    conversation: str | None = None,
    ttl_s: int = 8 * 3600,
) -> str:
    """
    A signed JWT (HS256); `secret` has 32 bytes or more.

    `role` is supervisor, admin, agent, connector or customer; `conversation` binds a customer's token.
    """
    now = int(time.time())
    claims: dict[str, object] = {
        "sub": sub,
        "name": name or sub,
        "org": org,
        "role": role,
        "permissions": list(permissions),
        "queues": list(queues),
        "divisions": list(divisions),
        "iat": now,
        "exp": now + ttl_s,
        "iss": "hub",
        "aud": "hub",
    }
    if conversation is not None:
        claims["conversation"] = conversation
    return jwt.encode(claims, secret, algorithm="HS256")
