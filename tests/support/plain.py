"""HTTP without TLS, which is all that processes under test speak."""

import ssl
from typing import Any

import httpx

# Trusts nobody. httpx would read the system's certificates for each client, 40 ms of work.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def plain_client(**options: Any) -> httpx.AsyncClient:
    """A client that takes nothing from the environment; `options` are those of `httpx.AsyncClient`."""
    return httpx.AsyncClient(trust_env=False, verify=_NO_TLS, **options)
