"""What a caller is told when there is no answer, in the shape of OpenAI's errors; and why a backend gave none."""

from __future__ import annotations

import json


class Refused(Exception):
    """The request gets no answer, and asking anybody else would change nothing."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        after: int | None = None,
        ours: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.after = after
        """Seconds after which it is worth asking again."""
        self.ours = ours
        """Whether the door could ask nobody: that counts against no model."""
        self.headers: dict[str, str] = {}
        """Of the answer that says so, where a decision had been made."""

    def body(self) -> bytes:
        """``{"error": {message, type, code, param}}``, which every client of OpenAI's API understands."""
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        error = {"message": self.message, "type": kind, "code": self.code, "param": self.param}
        return json.dumps({"error": error}).encode()


class Down(Exception):
    """A backend gave no answer. Nothing of one has reached the caller, so another may be asked."""

    def __init__(self, status: int, reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.status = status
        """What the failure counts as: 502, 503, or 504 for one that took too long."""
        self.reason = reason
        """A word for log and metrics; nothing that the backend said."""
        self.again = again
        """Whether the same backend may be asked once more."""


def unavailable(failure: Down) -> Refused:
    """Refusal of a request that nobody is left to answer."""
    status = 504 if failure.status == 504 else 503
    return Refused(status, "backend-down", f"The model's backend gave no answer ({failure.reason}).", after=2)
