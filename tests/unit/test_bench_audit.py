# SPDX-License-Identifier: Apache-2.0
"""The benchmark's audit asks fair questions about the cloud that it has measured."""

import random
from itertools import islice

import pytest

from tests.bench import audit
from tests.bench.cloud import CIDR_PORT, GROUP_PORT, Machine, Size
from tests.unit.trace_oracle import may_open

SIZE = Size(10, 5, 20, 3)
NEAR, FAR = Machine("near", 3).address, Machine("far", 7).address


@pytest.mark.parametrize(
    ("service", "source", "may"),
    [
        (f"tcp/{CIDR_PORT}", "20.0.3.4", True),
        (f"tcp/{CIDR_PORT + 1}", "20.0.3.4", False),
        (f"tcp/{GROUP_PORT + 2}", FAR, True),
        (f"tcp/{GROUP_PORT + 3}", FAR, False),
        (f"tcp/{GROUP_PORT}", Machine("far", 20).address, False),
        (f"udp/{GROUP_PORT}", NEAR, True),
    ],
)
def test_what_is_promised(service: str, source: str, may: bool) -> None:
    assert may_open(audit.promised(SIZE), service, source, Machine("near", 0).address) is may


@pytest.mark.parametrize("local", [True, False])
def test_questions_have_both_answers(local: bool) -> None:
    cloud, targets = audit.promised(SIZE), [Machine("near", number) for number in range(SIZE.ports)]
    asked = list(islice(audit.questions(random.Random(1), SIZE, targets, local=local), 200))
    allowed = sum(may_open(cloud, one.service, one.source, one.target.address) for one in asked)
    assert 40 < allowed < 160
    assert any(one.local for one in asked) is local
