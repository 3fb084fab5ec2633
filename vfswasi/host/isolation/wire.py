"""What passes between the caller's process and a worker, over a pair of sockets.

    to the worker      u64 length | pickle of plain data, with descriptors beside it (SCM_RIGHTS)
    from the worker    "vfw1" | u32 length of JSON | u64 length of blobs | JSON, an object | blobs

The caller is trusted by its workers, and not the other way round: a pickle can make whoever reads it do anything.
"""

from __future__ import annotations

import json
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any, Final

MAGIC: Final = b"vfw1"
ANSWER_HEAD: Final = struct.Struct("<4sIQ")
REQUEST_HEAD: Final = struct.Struct("<Q")
JSON_MAX_BYTES: Final = 1 << 18
DESCRIPTORS_MAX: Final = 8
TEXT_MAX: Final = 1 << 14  # characters of a message or of a trap
MOUNTS_MAX: Final = 16  # guest directories that a refusal names
SHORT: Final = 200  # characters of each of its texts

_PIECE_BYTES: Final = 1 << 20


class NoAnswerError(Exception):
    """What came from a worker is no answer; the text says what is wrong."""


def request(content: dict[str, Any]) -> bytes:
    """A request as it is sent. Raises TypeError: there is something in it that is not plain data."""
    try:
        body = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError, RecursionError) as error:
        raise TypeError(f"something that was given cannot be sent to another process: {error}") from error
    return REQUEST_HEAD.pack(len(body)) + body


def receive_request(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """(request, descriptors) in a worker; None: there will be none. Raises MemoryError when all of the request has
    been taken: whoever sends it listens only after that."""
    head, descriptors = b"", []
    while len(head) < REQUEST_HEAD.size:
        piece, passed, _, _ = socket.recv_fds(sock, REQUEST_HEAD.size - len(head), DESCRIPTORS_MAX)
        if not piece:
            return None
        head += piece
        descriptors += passed
    (size,) = REQUEST_HEAD.unpack(head)
    body = bytearray()
    taken = bytearray(min(size, _PIECE_BYTES))
    short = False
    left = size
    while left:
        count = sock.recv_into(taken, min(left, len(taken)))
        if not count:
            return None
        left -= count
        try:
            if not short:
                body += memoryview(taken)[:count]
        except MemoryError:
            short = True
            body.clear()
    if short:
        raise MemoryError
    content: dict[str, Any] = pickle.loads(body)
    return content, descriptors


def send_answer(sock: socket.socket, content: dict[str, Any], blobs: Sequence[bytes | bytearray] = ()) -> None:
    """In a worker. The lengths of `blobs` are told as "blobs"."""
    text = json.dumps({**content, "blobs": [len(blob) for blob in blobs]}).encode()
    if len(text) > JSON_MAX_BYTES:
        raise OverflowError(f"an answer of {len(text):,} bytes")
    sock.sendall(ANSWER_HEAD.pack(MAGIC, len(text), sum(map(len, blobs))) + text)
    for blob in blobs:
        sock.sendall(blob)


def lengths(head: bytes | bytearray, blobs_max: int) -> tuple[int, int]:
    """(of the JSON, of the blobs) of the answer that begins with `head`. Raises NoAnswerError."""
    magic, text, blobs = ANSWER_HEAD.unpack(head)
    if magic != MAGIC:
        raise NoAnswerError("it sent something that is no answer")
    if text > JSON_MAX_BYTES or blobs > blobs_max:
        raise NoAnswerError("it sent an answer that is too large")
    return text, blobs


def content_of(
    text: bytes | bytearray | memoryview, blobs: bytes | bytearray
) -> tuple[dict[str, Any], list[memoryview]]:
    """An answer taken apart. Raises NoAnswerError."""
    try:
        content = json.loads(bytes(text))
    except (ValueError, RecursionError):
        raise NoAnswerError("it sent an answer that cannot be read") from None
    if not isinstance(content, dict):
        raise NoAnswerError("it sent an answer of the wrong kind")
    sizes = content.get("blobs")
    if not isinstance(sizes, list) or len(sizes) > 4096 or not all(type(size) is int and size >= 0 for size in sizes):
        raise NoAnswerError("it sent an answer without the sizes of its parts")
    if sum(sizes) != len(blobs):
        raise NoAnswerError("it sent an answer whose parts have other sizes")
    whole, parts, at = memoryview(blobs), [], 0
    for size in sizes:
        parts.append(whole[at : at + size])
        at += size
    return content, parts
