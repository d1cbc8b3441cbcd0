"""An authorization server on loopback, with keys of its own."""

import asyncio
import time
from contextlib import asynccontextmanager

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mq9.http.port import listening, serving

RESOURCE = "https://mail.example/mcp"
HOUR = 3600

# To make an RSA key takes a while, and one does for all tests.
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(key, **members):
    """Return the public half of a key, as an authorization server publishes it."""
    kinds = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    kind = next((found for one, found in kinds.items() if isinstance(key, one)), OKPAlgorithm)
    return {**kind.to_jwk(key.public_key(), as_dict=True), **members}


class Issuer:
    """An authorization server: metadata, keys and tokens."""

    def __init__(self, url):
        self.url = url
        self.keys = [jwk(EC, kid="ec"), jwk(RSA, kid="rsa"), jwk(ED, kid="ed")]
        self.asked = []
        self.metadata = {}
        self.is_down = False
        self.held = asyncio.Event()
        self.held.set()

    @property
    def fetches(self):
        return self.asked.count("/keys")

    def token(self, subject="ada", *, key=EC, kid="ec", algorithm="ES256", headers=None, **claims):
        """Issue a token; a claim that is None is left out."""
        given = {
            "iss": self.url,
            "aud": RESOURCE,
            "sub": subject,
            "iat": int(time.time()),
            "exp": int(time.time()) + HOUR,
            **claims,
        }
        given = {name: value for name, value in given.items() if value is not None}
        headers = {**({} if kid is None else {"kid": kid}), **(headers or {})}
        return jwt.encode(given, key, algorithm, headers=headers)

    @property
    def app(self):
        """It, as an application."""
        return Starlette(
            routes=[
                Route("/.well-known/oauth-authorization-server", self._metadata),
                Route("/keys", self._keys),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    async def _metadata(self, request):
        self.asked.append(request.url.path)
        if self.is_down:
            return Response(status_code=500)
        return JSONResponse(
            {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "response_types_supported": ["code"],
                "grant_types_supported": ["client_credentials"],
                **self.metadata,
            }
        )

    async def _keys(self, request):
        self.asked.append(request.url.path)
        await self.held.wait()
        return JSONResponse({"keys": self.keys})

    async def _token(self, request):
        form = await request.form()
        token = self.token("desk", aud=form["resource"], scope=form.get("scope"), client_id="me")
        return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": HOUR})


@asynccontextmanager
async def issuing():
    """Run an authorization server on a port that the system assigns."""
    with await listening("port", "127.0.0.1", 0) as listener:
        issuer = Issuer(f"http://127.0.0.1:{listener.getsockname()[1]}")
        async with serving(issuer.app, listener):
            yield issuer
