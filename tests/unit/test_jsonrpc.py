# SPDX-License-Identifier: Apache-2.0
"""The byte stream is cut into messages wherever the network happens to split it."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sgctl.jsonrpc import Cutter

TEXT = st.text(st.sampled_from('{}[]"\\/ä€\n a'), max_size=8)
OBJECTS = st.dictionaries(TEXT, TEXT | st.lists(TEXT, max_size=2) | st.dictionaries(TEXT, TEXT, max_size=2), max_size=3)


@given(messages=st.lists(OBJECTS, max_size=4), ascii=st.booleans(), size=st.integers(1, 40))
def test_any_split_gives_the_same_messages(messages: list[Any], ascii: bool, size: int) -> None:
    stream = "\n".join(json.dumps(message, ensure_ascii=ascii) for message in messages).encode()
    cutter = Cutter()
    pieces = (stream[at : at + size] for at in range(0, len(stream), size))
    assert [json.loads(text) for piece in pieces for text in cutter.feed(piece)] == messages


def test_a_long_message_costs_its_length() -> None:
    message = json.dumps({"rows": ["x" * 50] * 100_000}).encode()
    cutter = Cutter()
    cut = [text for at in range(0, len(message), 4096) for text in cutter.feed(message[at : at + 4096])]
    assert cut == [message]
