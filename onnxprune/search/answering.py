"""Whether a Ray cluster answers at an address, in seconds; Ray itself tries for minutes."""

from __future__ import annotations

import os
import socket

from onnxprune.errors import UsageError

ANSWER = 5.0
"""Seconds in which it has to answer."""
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of HTTP/2, which gRPC speaks, begins: its preface, and settings without any (RFC 9113, 3.4 and 6.5)."""
_SETTINGS, _HEAD = 4, 9
"""The type of the frame with which a server has to begin, its fourth byte; and the length of a frame's head."""


def require_grpc(address: str) -> None:
    """Refuse an address where nothing listens, or something that does not speak gRPC.

    Raises:
        UsageError: so it is, or it is no address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"Ray address {address!r}, expected host:port, ray://host:port or local", "see `ray status`")
    try:
        with socket.create_connection((host, int(port)), ANSWER) as connection:
            if os.environ.get("RAY_USE_TLS", "0") in ("0", ""):  # under TLS the server waits for another beginning
                connection.sendall(_HELLO)
                answer = connection.recv(_HEAD, socket.MSG_WAITALL)
                if len(answer) < _HEAD or answer[3] != _SETTINGS:
                    raise no_answer(address, "what listens there is no Ray: it does not speak gRPC")
    except (OSError, OverflowError) as error:
        raise no_answer(address, str(error)) from error


def no_answer(address: str, why: str) -> UsageError:
    """The error for an address without a cluster."""
    return UsageError(
        f"no Ray cluster answers at {address}: {why}", "check the address with `ray status`, or start one"
    )
