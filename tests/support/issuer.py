"""An OAuth issuer: metadata, rotating keys, registration, codes with PKCE for any client, tokens for one resource.

`python issuer.py` serves one and prints its address; every user is `alice`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import anyio
import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

ALL = "videos:read videos:create"


class Issuer:
    """Made by `issuing`. `asked` counts the requests to each path; `status` is the answer to all of them if it is not
    200, `pause` delays them (s).

    `pages` overrides the answers of paths with a status and a body.
    """

    def __init__(self) -> None:
        self.address = ""
        self.asked: Counter[str] = Counter()
        self.status = 200
        self.pause = 0.0
        self.pages: dict[str, tuple[int, str]] = {}
        self.subject = "alice"
        self._keys: list[tuple[str, ec.EllipticCurvePrivateKey]] = []
        self._codes: dict[str, dict[str, str]] = {}
        self.rotate()

    def rotate(self, name: str | None = None) -> None:
        """From now on tokens are signed with a new key, of this name if one is given; the old ones are listed no
        longer."""
        self._keys = [(name or f"key-{secrets.token_hex(4)}", ec.generate_private_key(ec.SECP256R1()))]

    def token(self, audience: str, *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A valid token, or one with other claims or headers; a claim that is None is left out."""
        name, key = self._keys[0]
        now = int(time.time())
        usual: dict[str, Any] = {
            "iss": self.address,
            "sub": self.subject,
            "aud": audience,
            "client_id": "tests",
            "scope": ALL,
        }
        usual |= {"iat": now, "exp": now + 300}
        payload = {field: value for field, value in (usual | claims).items() if value is not None}
        token_headers = {"kid": name, "typ": "at+jwt"} | (headers or {})
        token_headers = {field: value for field, value in token_headers.items() if value is not None}
        return jwt.encode(payload, key, algorithm="ES256", headers=token_headers)

    @property
    def public_key(self) -> bytes:
        """The public key, as PEM."""
        from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415

        return self._keys[0][1].public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)

    @property
    def app(self) -> ASGIApp:
        metadata = [f"/.well-known/{name}" for name in ("oauth-authorization-server", "openid-configuration")]
        routes = [Route(path, self._metadata) for path in metadata]
        routes += [Route("/jwks", self._jwks), Route("/authorize", self._authorize)]
        routes += [Route("/register", self._register, methods=["POST"]), Route("/token", self._token, methods=["POST"])]
        return Starlette(routes=routes, middleware=[Middleware(_FaultMiddleware, self)])

    async def _metadata(self, _: Request) -> Response:
        ends = {f"{name}_endpoint": f"{self.address}/{path}" for name, path in _ENDPOINTS.items()}
        lists = {"response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"]}
        lists |= {"token_endpoint_auth_methods_supported": ["none"], "grant_types_supported": ["authorization_code"]}
        return JSONResponse({"issuer": self.address, "jwks_uri": f"{self.address}/jwks"} | ends | lists)

    async def _jwks(self, _: Request) -> Response:
        keys = [
            json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": kid} for kid, key in self._keys
        ]
        return JSONResponse({"keys": keys})

    async def _register(self, request: Request) -> Response:
        return JSONResponse(await request.json() | {"client_id": secrets.token_hex(8)}, status_code=201)

    async def _authorize(self, request: Request) -> Response:
        authorization = dict(request.query_params)
        assert authorization["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._codes[code] = authorization
        answer = {"code": code, "iss": self.address} | {
            name: authorization[name] for name in ("state",) if name in authorization
        }
        return RedirectResponse(f"{authorization['redirect_uri']}?{urlencode(answer)}", status_code=302)

    async def _token(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        authorization = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            authorization is None
            or challenge != authorization["code_challenge"]
            or form.get("redirect_uri") != authorization["redirect_uri"]
        ):
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        scope = authorization.get("scope", "")
        token = self.token(authorization["resource"], scope=scope, client_id=authorization["client_id"])
        return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": scope})


_ENDPOINTS = {"authorization": "authorize", "token": "token", "registration": "register"}


class _FaultMiddleware:
    def __init__(self, app: ASGIApp, issuer: Issuer) -> None:
        self._app = app
        self._issuer = issuer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._issuer.asked[scope["path"]] += 1
            await anyio.sleep(self._issuer.pause)
        status, body = self._issuer.pages.get(scope.get("path", ""), (self._issuer.status, ""))
        is_overridden = status != 200 or body
        await (Response(body, status_code=status) if is_overridden else self._app)(scope, receive, send)


@contextmanager
def issuing() -> Iterator[Issuer]:
    """An issuer on a free port of this machine, in a thread."""
    issuer = Issuer()
    server = uvicorn.Server(uvicorn.Config(issuer.app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    issuer.address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield issuer
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(10)


if __name__ == "__main__":
    with issuing() as issuer:
        print(issuer.address, flush=True)  # noqa: T201
        threading.Event().wait()
