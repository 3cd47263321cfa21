"""The one key in front of the whole API port: every path, known or not. Port 9000 never asks for it.

There are no users, scopes or rates here: who needs those puts a gateway in front.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, MutableMapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from diffusion_runtime.loading.refusal import EngineRefusal

from .openai_errors import ApiError

KEY_VARIABLE = "DIFFUSION_API_KEY"
SCHEME = "bearer"


class ApiKey:
    """Compares in constant time, also for keys of another length. Holds a digest, never the key."""

    def __init__(self, key: str) -> None:
        self._digest = hashlib.sha256(key.encode()).digest()

    def opens(self, authorization: str) -> bool:
        """Whether an Authorization header carries this key."""
        scheme, _, given = authorization.partition(" ")
        # Headers arrive as latin-1; the key's own bytes are UTF-8.
        offered = hashlib.sha256(given.strip().encode("latin-1", "replace")).digest()
        return hmac.compare_digest(offered, self._digest) and scheme.lower() == SCHEME


def take_api_key(environment: MutableMapping[str, str]) -> ApiKey | None:
    """Read the key and remove it, so that no rank process inherits it. None: no key is asked for.

    White space around it does not count: Secrets made from a file often end in a newline.
    Raises EngineRefusal.
    """
    given = environment.pop(KEY_VARIABLE, None)
    if given is None:
        return None
    key = given.strip()
    if not key or not key.isprintable():
        what = "is empty" if not key else "has characters that no HTTP header can carry"
        message = f"The API key in {KEY_VARIABLE} {what}; put another one into the Secret."
        raise EngineRefusal("InvalidSpec", message)
    return ApiKey(key)


class KeyGate:
    """ASGI middleware: without the key, a 401 in OpenAI's form before anything else looks at the request."""

    def __init__(self, app: ASGIApp, key: ApiKey, answer: Callable[[Request, Response], Response]) -> None:
        self._app = app
        self._key = key
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get("authorization", "")
        if self._key.opens(given):
            await self._app(scope, receive, send)
            return
        response = self._answer(request, _refusal(bool(given)))
        await response(scope, receive, send)


def _refusal(given: bool) -> Response:
    """What OpenAI's own API answers, so that clients raise their AuthenticationError."""
    message = (
        "Incorrect API key provided."
        if given
        else "You didn't provide an API key. Send it as the header Authorization: Bearer YOUR_KEY."
    )
    response = ApiError(401, message, code="invalid_api_key").response()
    response.headers["WWW-Authenticate"] = "Bearer"
    return response
