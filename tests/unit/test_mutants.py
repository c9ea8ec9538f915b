# SPDX-License-Identifier: Apache-2.0
"""The deliberate bugs of `tests.mutants` can still be made; whether they are caught is `make mutants`'s business."""

from __future__ import annotations

import ast

import pytest

from tests.mutants import ROOT, Mutant, mutants

MUTANTS = mutants()


def test_there_are_many_and_each_has_its_own_name() -> None:
    assert len({one.name for one in MUTANTS}) == len(MUTANTS) > 100


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_its_text_is_in_the_code_once_and_what_comes_of_it_is_python(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text()
    changed = mutant.applied(text)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))
