"""Where a server of ours listens, and that no secret travels to it in the clear."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import NamedTuple

from modelsmith.schema.errors import InfrastructureFailure, InvalidInput

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Listening(NamedTuple):
    """Address at which the server is reached."""

    host: str
    port: int
    names: tuple[str, ...] = ()
    """Names by which clients know it, besides those of this machine itself."""
    certificate: Path | None = None
    key: Path | None = None

    @property
    def scheme(self) -> str:
        """``https`` where it has a certificate."""
        return "https" if self.certificate else "http"

    @property
    def hosts(self) -> list[str]:
        """What the ``Host`` of a request to it may say: another one comes of a name that was bound anew."""
        named = [f"{name}:{self.port}" for name in (*_LOOPBACK, *self.names)]
        return [*named, *self.names] if self.port in (80, 443) else named

    @property
    def local(self) -> bool:
        """Whether only this machine itself reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def refuse_plain(listening: Listening) -> None:
    """Tokens travel in the clear without TLS, so only this machine itself may be spoken to without it.

    Raises:
        InvalidInput: ``tls-needed``.
    """
    if listening.certificate or listening.local:
        return
    raise InvalidInput(
        "tls-needed",
        f"{listening.host} is reached from other machines, and a token would travel there in the clear",
        "Give --tls-cert and --tls-key, or listen on 127.0.0.1.",
        host=listening.host,
    )


def tls(listening: Listening) -> ssl.SSLContext | None:
    """TLS context of a server; None where it has no certificate.

    Raises:
        InvalidInput: ``bad-certificate``.
    """
    if listening.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(listening.certificate, listening.key)
    except (ssl.SSLError, OSError) as error:
        raise InvalidInput(
            "bad-certificate",
            f"Certificate and key cannot be used: {error.strerror or type(error).__name__}",
            "Give a PEM certificate chain and its private key.",
        ) from None
    return context


def address_taken(listening: Listening, error: OSError) -> InfrastructureFailure:
    """The error where the system does not let a server listen."""
    return InfrastructureFailure(
        "address-taken",
        f"{listening.host}:{listening.port} cannot be listened on: {error.strerror}",
        "Give another --port or --host, or end the program that has it.",
        port=listening.port,
    )
