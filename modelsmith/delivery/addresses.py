"""Pure: which network addresses a webhook may go to."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

from modelsmith.schema.errors import InvalidInput

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_OF_CLOUDS = (ipaddress.ip_network("168.63.129.16/32"), ipaddress.ip_network("192.0.0.0/24"))
"""What clouds tell a virtual machine at addresses that look like any other: Azure's, and Oracle's (RFC 6890)."""
_INTERNET = tuple(map(ipaddress.ip_network, ("0.0.0.0/0", "2000::/3", "64:ff9b::/96")))
"""Of IPv6 only what IANA has given out, and NAT64: fec0::/10 (RFC 3879) leads from a virtual machine to its host."""
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
"""NAT64 (RFC 6052, RFC 8215): the last four bytes are an address of IPv4."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks as somebody configured them, such as ``10.1.2.0/24``.

    Raises:
        InvalidInput: ``bad-network``.
    """
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise InvalidInput(
            "bad-network",
            f"modelsmith.webhook-allow: {error}",
            "Write a network with no host bits, such as 10.1.2.0/24.",
            reason=str(error),
        ) from None


def is_allowed(address: Address, allowed: Collection[Network]) -> bool:
    """Whether the address lies in a network that this clone allows."""
    return any(address in network for network in allowed)


def is_public(address: Address) -> bool:
    """Whether the address is one of the internet, and neither of this machine, its networks or its cloud.

    An address of IPv6 that carries one of IPv4 (mapped, 6to4, Teredo, NAT64) is as public as the one that it carries.
    """
    return all(
        ip.is_global
        and not ip.is_multicast
        and any(ip in network for network in _INTERNET)
        and not any(ip in network for network in _OF_CLOUDS)
        for ip in (address, *_carried(address))
    )


def _carried(address: Address) -> list[Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    embedded = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _TRANSLATED) or int(address) >> 32 == 0:
        embedded.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [ip for ip in embedded if ip is not None]
