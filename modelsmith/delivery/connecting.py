"""Connections to the very address that was checked, so that no name can lead elsewhere between check and connection."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterable
from typing import Any

import anyio
import httpcore
from typing_extensions import override

from modelsmith.delivery.addresses import Address, Network, is_allowed, is_public


class Refused(Exception):
    """The name leads to an address that no webhook goes to."""


async def resolve(host: str, port: int) -> list[Address]:
    """Addresses of a name, as the system knows them.

    Raises:
        OSError: the name is unknown.
    """
    entries = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in entries]


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a name once, refuses it where any of its addresses is refused, and connects to one that was checked."""

    def __init__(self, allowed: Collection[Network], internet: bool) -> None:
        """``internet``: public addresses too, and not only those of the ``allowed`` networks."""
        self._allowed = allowed
        self._internet = internet
        self._backend = httpcore.AnyIOBackend()

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore.

        Raises:
            Refused: an address of the name is refused.
        """
        try:
            addresses = await resolve(host, port)
        except OSError:
            raise httpcore.ConnectError("the name is unknown") from None
        for address in addresses:
            if not is_allowed(address, self._allowed) and not (self._internet and is_public(address)):
                raise Refused(f"its address {address} is not allowed")
        failed: Exception = httpcore.ConnectError("the name has no address")
        for address in addresses:
            try:
                return await self._backend.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    @override
    async def sleep(self, seconds: float) -> None:
        """See httpcore."""
        await anyio.sleep(seconds)
