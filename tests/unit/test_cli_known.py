# SPDX-License-Identifier: Apache-2.0
"""The built-in command names against the commands that the API declares."""

from sgctl.api.catalogue import catalogue
from sgctl.cli.catalogue import BUILT_IN
from sgctl.cli.guide import OWN


def test_every_command_of_the_api_is_built_in_under_its_true_name() -> None:
    missing = {command.name for command in catalogue()} - {command.name for command in BUILT_IN.commands}
    assert missing == set()


def test_no_verb_of_the_api_is_hidden_by_a_command_of_the_command_lines_own() -> None:
    assert {command.verb for command in BUILT_IN.commands} & set(OWN) == set()


def test_every_command_is_found_by_its_spelling() -> None:
    for command in BUILT_IN.commands:
        assert BUILT_IN.find(command.spelling.split()) is command
