"""HTTP on a port, and checks of host names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection


def is_loopback(host: str) -> bool:
    """Return whether an address or name is reachable only from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def names_this_server(host: str, names: Collection[str]) -> bool:
    """Return whether a Host header names this server, by one of its names or by an IP address.

    A web page can make a browser call this machine under the host name of the page. It cannot do so
    under an IP address.
    """
    name = re.sub(r":\d*\Z", "", host).lower()
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
