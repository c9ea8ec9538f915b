# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between us and the local switch's database."""

from sgctl.errors import SgctlError


class VSwitchError(SgctlError):
    """The local switch's database cannot be read or changed now."""
