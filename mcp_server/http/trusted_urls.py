"""URLs that tokens are verified by: of an authorization server, its keys, and the resource."""

from __future__ import annotations

from typing import Any

from pydantic import AnyHttpUrl, ConfigDict, TypeAdapter, ValidationError

from mq9 import InvalidRequest
from mq9.address import shown
from mq9.http.loopback import is_loopback

# Issuers and audiences are compared as text, to which no slash must come.
URL = TypeAdapter(AnyHttpUrl, config=ConfigDict(url_preserve_empty_path=True))


def check_url(name: str, url: Any) -> None:
    """Check such a URL.

    Args:
        name: What it is called, for the error.
        url: The URL.

    Raises:
        InvalidRequest: It is neither HTTPS nor HTTP on loopback, has a user, a query or a fragment,
            or is not in its usual spelling.
    """
    try:
        known = URL.validate_python(url)
    except ValidationError:
        known = None
    if (
        known is None
        or not (known.scheme == "https" or is_loopback(known.host or ""))
        or (known.username, known.password, known.query, known.fragment) != (None,) * 4
    ):
        raise InvalidRequest(
            f"{name}: {shown(url)} is not an https:// URL (or http:// on loopback) without a user, "
            "a query and a fragment"
        )
    if str(known) != url:
        raise InvalidRequest(f"{name}: {shown(url)} is usually written {known}")


def host_of(resource: str) -> str:
    """Return the host in the URL of a resource.

    Raises:
        InvalidRequest: It is no URL of one.
    """
    check_url("resource", resource)
    return URL.validate_python(resource).host or ""
