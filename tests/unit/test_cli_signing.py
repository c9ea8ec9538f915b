# SPDX-License-Identifier: Apache-2.0
"""Signatures, held against vectors made with the `cs` client's signer and against that client itself."""

import pytest
from cs import CloudStack
from hypothesis import given
from hypothesis import strategies as st

from sgctl.signing import encoded_value, signature, signed_text

VECTORS = [
    ({"command": "listZones"}, "ttZHRreaaHtL94D3ephott1I6sI="),
    ({"command": "createSecurityGroup", "name": "a b*c/d[e]", "description": "ä&=+"}, "yVnkoDMo1WcxR0i9AByrskOCQeI="),
    (
        {
            "command": "authorizeSecurityGroupIngress",
            "usersecuritygrouplist[0].account": "operator",
            "usersecuritygrouplist[0].group": "nagios",
            "protocol": "tcp",
            "startport": "12489",
            "endport": "12489",
            "securitygroupname": "web",
        },
        "/su9oBv4uvir6iwOeSmmlr7Ccqo=",
    ),
    (
        {"command": "listZones", "signatureVersion": "3", "expires": "2030-01-01T00:00:00+0000"},
        "LKHkXy527HwvyILTwrDFZM7/VoM=",
    ),
]


@pytest.mark.parametrize(("params", "expected"), VECTORS)
def test_vectors(params: dict[str, str], expected: str) -> None:
    assert signature({**params, "apiKey": "APIKEY", "response": "json"}, "SECRET") == expected


def test_signed_text_encodes_values_only_and_lowers_everything() -> None:
    params = {"apiKey": "APIKEY", "response": "json", **VECTORS[1][0]}
    assert signed_text(params) == (
        "apikey=apikey&command=createsecuritygroup&description=%c3%a4%26%3d%2b&name=a%20b*c%2fd%5be%5d&response=json"
    )


def test_a_signature_among_the_parameters_is_not_signed() -> None:
    params = {"command": "listZones", "apiKey": "APIKEY"}
    assert signed_text({**params, "Signature": "x"}) == signed_text(params)


def test_tilde_is_encoded_unless_it_is_to_stay_literal() -> None:
    assert encoded_value("~[a]") == "%7E%5Ba%5D"
    assert encoded_value("~[a]", literal="~") == "~%5Ba%5D"
    assert encoded_value("~[a]", literal="[]") == "%7E[a]"


NAMES = st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda name: name != "signature")
VALUES = st.text(st.characters(codec="utf-8"), min_size=1)


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=5))
def test_the_cs_client_signs_the_same_but_for_tildes(params: dict[str, str]) -> None:
    client = CloudStack(endpoint="http://127.0.0.1", key="APIKEY", secret="S3cret")
    signed = dict(params)
    client._sign(signed)
    assert signed["signature"] == signature(params, "S3cret", literal="~")
