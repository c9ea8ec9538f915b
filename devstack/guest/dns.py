# SPDX-License-Identifier: Apache-2.0
"""Questions to a resolver, and the addresses in its answers (RFC 1035)."""

import os
import socket
import struct

RECORDS = {"A": (1, socket.AF_INET), "AAAA": (28, socket.AF_INET6)}


def dns_query(name: str, kind: str) -> bytes:
    """A recursive question for the addresses of `name`."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return os.urandom(2) + struct.pack("!5H", 0x0100, 1, 0, 0, 0) + labels + struct.pack("!xHH", RECORDS[kind][0], 1)


def dns_addresses(answer: bytes, question: bytes, kind: str) -> list[str]:
    """The addresses in `answer`, whose records refer to the question's name by a compression pointer."""
    number, family = RECORDS[kind]
    found, offset = [], len(question)
    for _ in range(struct.unpack_from("!H", answer, 6)[0]):
        record, _, _, length = struct.unpack_from("!2xHHIH", answer, offset)
        offset += 12
        if record == number:
            found.append(socket.inet_ntop(family, answer[offset : offset + length]))
        offset += length
    return found
