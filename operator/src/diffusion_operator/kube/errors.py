"""Typed answers of the API server, so that callers decide by class and never by status code.

Holds no retry policy: the client retries what the server asked to be retried, the queue does the rest.
"""

from __future__ import annotations

import json
from typing import Any


class ApiError(Exception):
    """The API server did not do what was asked.

    `status` is the HTTP code, 0 when no answer came; `retry_after_s` what the server asked for, if anything.
    """

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


class Unreachable(ApiError):
    """No answer: refused, reset, timed out. A write may have happened; every write may be repeated."""


class Unauthorized(ApiError):
    """401: the token is wrong or expired."""


class Forbidden(ApiError):
    """403: a verb is missing in the operator's role; the server's message names it."""


class NotFound(ApiError):
    """404."""


class Conflict(ApiError):
    """409: a precondition (uid, resourceVersion) did not hold."""


class AlreadyExists(Conflict):
    """409 on create: an object of that name is there."""


class Gone(ApiError):
    """410: a continue token or resourceVersion is too old."""


class Invalid(ApiError):
    """422 or 400: the object itself is refused; repeating it cannot help."""


class TooManyRequests(ApiError):
    """429, still after the retries that Retry-After allowed."""


class ServerError(ApiError):
    """5xx."""


class StoreWentBack(Exception):
    """Versions run backwards: the API server's store was restored from a backup.

    All that this process knows is of a time that never was, and its watches wait for versions that may never
    come. It must end; a fresh one lists everything.
    """


def require_forward(what: str, before: str, now: str) -> None:
    """Raise StoreWentBack when `now`, asked for after `before` had come, is the lower resourceVersion."""
    if before.isdigit() and now.isdigit() and int(now) < int(before):
        raise StoreWentBack(
            f"{what} is at resourceVersion {now} and was at {before}: the store of the API server went back, "
            "as after a restore from a backup; a fresh process lists everything anew"
        )


_CLASSES: dict[int, type[ApiError]] = {
    400: Invalid, 401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict,
    410: Gone, 422: Invalid, 429: TooManyRequests,
}  # fmt: skip


def error_from_answer(request: str, status: int, body: bytes, retry_after_s: float | None) -> ApiError:
    """Build the typed error for one answer. `request` is `VERB path`; `body` a Status object, or anything."""
    answer = _status_object(body)
    reason = str(answer.get("reason") or "")
    kind = AlreadyExists if reason == "AlreadyExists" else _CLASSES.get(status)
    if kind is None:
        kind = ServerError if status >= 500 else ApiError
    text = str(answer.get("message") or body[:200].decode("utf-8", "replace") or "no message")
    return kind(f"{request}: {status}: {text}", status=status, reason=reason, retry_after_s=retry_after_s)


def _status_object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
