# SPDX-License-Identifier: Apache-2.0
"""What the command line reports instead of a result."""

from sgctl.errors import SgctlError


class CliError(SgctlError):
    """A failure told to the user in one sentence; the command ends with `status`."""

    status = 1

    def __str__(self) -> str:
        return f"error: {super().__str__()}"


class UsageError(CliError):
    """The command line itself is wrong."""

    status = 2


class Unreachable(CliError):
    """Nobody answered, or not in HTTP."""


class ApiError(CliError):
    """The API refused the call, or its job failed: `code` as CloudStack numbers errors, `text` the server's own."""

    def __init__(self, code: int, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.hint = hint

    def __str__(self) -> str:
        return f"error {self.code}: {self.text}" + (f"\n{self.hint}" if self.hint else "")
