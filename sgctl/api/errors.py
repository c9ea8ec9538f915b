# SPDX-License-Identifier: Apache-2.0
"""What the API answers when it does not do what it was asked: CloudStack's error codes and texts."""

from enum import IntEnum

from sgctl.errors import SgctlError


class Code(IntEnum):
    """CloudStack's ``ApiErrorCode``; the HTTP status has the same number."""

    UNAUTHORIZED = 401
    NOT_FOUND = 404
    METHOD = 405
    TOO_LARGE = 413
    MALFORMED = 430
    PARAMETER = 431
    UNSUPPORTED = 432
    INTERNAL = 530
    DENIED = 531
    LIMIT = 532
    CAPACITY = 533
    UNAVAILABLE = 534
    ALLOCATION = 535
    IN_USE = 536


_EXCEPTION_CODES = {
    Code.PARAMETER: 4350,
    Code.INTERNAL: 4250,
    Code.DENIED: 4365,
    Code.LIMIT: 4280,
    Code.CAPACITY: 4325,
    Code.UNAVAILABLE: 4380,
    Code.ALLOCATION: 4370,
    Code.IN_USE: 4375,
}


class ApiError(SgctlError):
    """A refusal with one of CloudStack's codes.  The job of an asynchronous command carries it."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def cserrorcode(self) -> int:
        """CloudStack's number for the exception that it would have thrown."""
        return _EXCEPTION_CODES.get(self.code, 9999)


class EarlyError(ApiError):
    """A refusal before there is anything to do, so that an asynchronous command has no job either."""


def invalid(text: str) -> ApiError:
    """A parameter that makes no sense."""
    return ApiError(Code.PARAMETER, text)


def absent(param: str, value: str) -> EarlyError:
    """A parameter that names something which does not exist, in CloudStack's words."""
    return EarlyError(
        Code.PARAMETER,
        f"Unable to execute API command due to invalid value. Invalid parameter {param} value={value} due to incorrect "
        "long value format, or entity does not exist or due to incorrect parameter annotation for the field in api cmd "
        "class.",
    )


def denied(text: str) -> EarlyError:
    """Something of somebody else."""
    return EarlyError(Code.DENIED, text)
