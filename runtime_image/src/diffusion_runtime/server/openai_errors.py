"""Errors in the shape that OpenAI clients read: {"error": {message, type, param, code}}, all four keys always
there.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from diffusion_runtime.generation.failures import MEMORY_REASONS

from .engine import NotServing, OutOfTime
from .jobs import QueueFull
from .rank_group import GroupFailed, UndrawableRequest
from .termination import EngineEnded


class ApiError(Exception):
    """One answer that is not a picture.

    `param` names the field at fault, `retry_after_s` says when to come back.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def type(self) -> str:
        """OpenAI's error type for this status."""
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def response(self) -> JSONResponse:
        """The HTTP answer."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            # A key of the body may be half of a surrogate pair, which has no bytes in UTF-8.
            "param": self.param and self.param.encode(errors="replace").decode(),
            "code": self.code,
        }
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return JSONResponse({"error": error}, self.status, headers)


def bad_field(param: str, message: str) -> ApiError:
    """The request is wrong in one field."""
    return ApiError(400, message, param=param, code="invalid_value")


def from_engine(error: Exception, retry_after_s: int) -> ApiError:
    """What the engine raised, for the client.

    Raises the error itself when it is none the engine documents.
    """
    if isinstance(error, QueueFull):
        message = f"The queue is full; try again in {retry_after_s} s."
        return ApiError(429, message, code="queue_full", retry_after_s=retry_after_s)
    if isinstance(error, OutOfTime):
        message = "This engine is shutting down and had no time left for this request; send it again."
        return ApiError(503, message, code="engine_draining", retry_after_s=1)
    if isinstance(error, NotServing):
        message = "This engine is shutting down and accepts no new requests; try again."
        return ApiError(503, message, code="engine_draining", retry_after_s=1)
    if isinstance(error, UndrawableRequest):
        return _undrawable(error)
    if isinstance(error, GroupFailed):
        code = "out_of_memory" if error.failure.reason in MEMORY_REASONS else "rank_group_restarted"
        message = (
            f"The request was lost in phase {error.failure.phase} ({error.failure.reason}); "
            "the engine is starting a new rank group. Send it again."
        )
        return ApiError(503, message, code=code, retry_after_s=retry_after_s)
    if isinstance(error, EngineEnded):
        message = f"The engine ended ({error.failure.reason}) before this request was drawn; try again."
        return ApiError(503, message, code="engine_ended", retry_after_s=retry_after_s)
    raise error


def _undrawable(error: UndrawableRequest) -> ApiError:
    if error.failure.field is not None:
        return bad_field(error.failure.field, error.failure.message)
    return ApiError(500, f"The picture could not be drawn: {error.failure.message}", code="generation_failed")
