"""
An identity provider in this process that can be made to misbehave: keys that come and go, outages, tokens gone wrong.

It speaks OpenID Connect as far as a relying party sees it (Core 1.0, Discovery 1.0, PKCE by RFC 7636), over a real socket. A
person's part in front of its sign-in page is `Provider.code`: it answers the request that the hub redirected to.
"""

import base64
import contextlib
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

CLIENT, CLIENT_SECRET = "console", "a client's secret: 100% for tests"
SLOW_S = 30.0


class Provider:
    """
    See the module. `keys` are its signing keys by `kid`, the last one signs; `down` answers nothing, `slow` only after a
    long time. `asked` counts requests by path.
    """

    def __init__(self) -> None:
        self.keys = {"first": ec.generate_private_key(ec.SECP256R1())}
        self.down = False
        self.slow = False
        self.asked: dict[str, int] = {}
        self.codes: dict[str, dict[str, Any]] = {}
        self.metadata: dict[str, Any] = {}  # what the discovery document says differently
        self.client_auth = "basic"  # how its client must show itself: basic, post, nothing
        self.answer: dict[str, Any] = {}  # what the token endpoint's answer says differently
        self._released = threading.Event()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._get(self)

            def do_POST(self) -> None:
                provider._post(self)

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self) -> "Provider":
        return self

    def __exit__(self, *_args: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def issuer(self) -> str:
        """Its name, and the address that everything of it is under."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def rotate(self, kid: str, *, keep: bool = True) -> None:
        """Sign with a new key from now on; the ones before stay listed, or not."""
        self.keys = (self.keys if keep else {}) | {kid: ec.generate_private_key(ec.SECP256R1())}

    def token(self, claims: dict[str, Any], kid: str | None = None, key: Any = None) -> str:
        """A token with these claims, signed with the newest key, or as said."""
        kid = kid or list(self.keys)[-1]
        return jwt.encode(claims, key or self.keys[kid], algorithm="ES256", headers={"kid": kid})

    def code(self, request: str, **claims: Any) -> str:
        """A code for the request at this address, for somebody with these claims; one that is None is left out."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(request).query).items()}
        now = int(time.time())
        usual = {
            "iss": self.issuer,
            "aud": asked["client_id"],
            "sub": "ana",
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
        }
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked | {
            "claims": {name: value for name, value in (usual | claims).items() if value is not None}
        }
        return code

    def _get(self, handler: BaseHTTPRequestHandler) -> None:
        if not self._ready(handler):
            return
        match urlsplit(handler.path).path:
            case "/.well-known/openid-configuration":
                self._send(handler, self._discovered())
            case "/keys":
                self._send(handler, self._listed())
            case "/endless":
                self._send(handler, {"more": "x" * 1_000_000})
            case _:
                self._send(handler, {"error": "not_found"}, 404)

    def _ready(self, handler: BaseHTTPRequestHandler) -> bool:
        path = urlsplit(handler.path).path
        self.asked[path] = self.asked.get(path, 0) + 1
        if self.slow:
            self._released.wait(SLOW_S)
        if self.down:
            handler.close_connection = True
            return False
        return True

    def _discovered(self) -> dict[str, Any]:
        base = self.issuer
        return {
            "issuer": base,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "jwks_uri": f"{base}/keys",
            "end_session_endpoint": f"{base}/end",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
        } | self.metadata

    def _listed(self) -> dict[str, Any]:
        known = jwt.get_algorithm_by_name("ES256")
        return {"keys": [json.loads(known.to_jwk(key.public_key())) | {"kid": kid} for kid, key in self.keys.items()]}

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", "0"))).decode()
        if not self._ready(handler):
            return
        sent = {name: values[0] for name, values in parse_qs(body).items()}
        asked = self.codes.pop(sent.get("code", ""), None)  # RFC 6749, 4.1.2: once
        if asked is None or not self._proven(handler, sent, asked):
            self._send(handler, {"error": "invalid_grant", "error_description": "not this code"}, 400)
            return
        claims = asked["claims"]
        answer = {"access_token": "opaque", "token_type": "Bearer", "expires_in": 300, "id_token": self.token(claims)}
        self._send(handler, {name: value for name, value in (answer | self.answer).items() if value is not None})

    def _proven(self, handler: BaseHTTPRequestHandler, sent: dict[str, str], asked: dict[str, Any]) -> bool:
        digest = hashlib.sha256(sent.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        name, secret = quote_plus(CLIENT), quote_plus(CLIENT_SECRET)  # RFC 6749, section 2.3.1
        basic = base64.b64encode(f"{name}:{secret}".encode()).decode()
        return (
            asked["code_challenge_method"] == "S256"
            and challenge == asked["code_challenge"]
            and sent.get("redirect_uri") == asked["redirect_uri"]
            and (handler.headers.get("authorization"), sent.get("client_id"), sent.get("client_secret"))
            == {
                "basic": (f"Basic {basic}", None, None),
                "post": (None, CLIENT, CLIENT_SECRET),
                "nothing": (None, CLIENT, None),
            }[self.client_auth]
        )

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, answer: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(answer).encode()
        with contextlib.suppress(OSError):  # whoever asked has gone: they waited long enough
            handler.send_response(status)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
