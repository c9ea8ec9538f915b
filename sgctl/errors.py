# SPDX-License-Identifier: Apache-2.0
"""The exceptions that cross module borders."""


class SgctlError(Exception):
    """Anything that sgctl reports about its input or its surroundings; the text is meant for people."""
