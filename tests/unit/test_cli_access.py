# SPDX-License-Identifier: Apache-2.0
"""Where `sgctl` finds endpoint and keys."""

from pathlib import Path

import pytest

from sgctl.cli.access import Access, resolve_access
from sgctl.cli.errors import CliError

URL = "http://127.0.0.1:8080/client/api"
ENVIRON = {"CLOUDSTACK_ENDPOINT": URL, "CLOUDSTACK_KEY": "k", "CLOUDSTACK_SECRET": "s"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cloudstack.ini"
    path.write_text(
        "[cloudstack]\nendpoint = http://file/client/api\nkey = fk\nsecret = f%s\ntimeout = 5\n"
        "[other]\nendpoint = https://other/client/api\nkey = ok\nsecret = os\nverify = /ca.pem\njob_timeout = 7\n"
    )
    return path


def test_the_environment_alone() -> None:
    assert resolve_access(ENVIRON) == Access(URL, "k", "s")


def test_a_file_named_on_the_line_goes_before_the_environment(file: Path) -> None:
    found = resolve_access(ENVIRON, config=str(file))
    assert (found.endpoint, found.key, found.secret, found.timeout) == ("http://file/client/api", "fk", "f%s", 5.0)


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_section_of_the_file(file: Path, how: str) -> None:
    if how == "option":
        found = resolve_access({}, config=str(file), profile="other")
    else:
        found = resolve_access({"CLOUDSTACK_CONFIG": str(file), "CLOUDSTACK_REGION": "other"})
    assert found == Access("https://other/client/api", "ok", "os", job_timeout=7, verify="/ca.pem", source=found.source)
    assert found.source == f"{file} [other]"


def test_the_file_in_the_home_directory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.rename(file.with_name(".cloudstack.ini"))
    monkeypatch.setenv("HOME", str(file.parent))
    assert resolve_access({}).key == "fk"
    assert resolve_access(ENVIRON).key == "k"


def test_key_and_secret_belong_together(file: Path) -> None:
    environ = {"CLOUDSTACK_CONFIG": str(file), "CLOUDSTACK_KEY": "k"}
    with pytest.raises(CliError, match="no secret for http://file/client/api: set CLOUDSTACK_SECRET"):
        resolve_access(environ)


def test_the_secret_is_not_in_the_repr() -> None:
    assert "s3cr3t" not in repr(resolve_access({**ENVIRON, "CLOUDSTACK_SECRET": "s3cr3t"}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"key = 1\n", "line 1 is not of the form name = value"),
        (b"[cloudstack]\nmy secret words\n", "line 2 is not"),
        (b"[cloudstack]\nkey = \xff\n", "it is not UTF-8 text"),
        (b"[elsewhere]\n", r"has no section \[cloudstack\]; its sections: elsewhere"),
        (b"[cloudstack]\n", "no endpoint: set CLOUDSTACK_ENDPOINT"),
        (b"[cloudstack]\nendpoint = http://h/\n", "no key for http://h/"),
        (b"[cloudstack]\nendpoint = ftp://h/\nkey=k\nsecret=s\n", "'ftp://h/' is not an http or https URL"),
        (b"[cloudstack]\nendpoint = http://h:x/\nkey=k\nsecret=s\n", "is not an http or https URL"),
        (b"[cloudstack]\nendpoint = http://h/\nkey=k\nsecret=s\ntimeout=soon\n", "timeout 'soon' is not a positive"),
        (b"[cloudstack]\nendpoint = http://h/\nkey=k\nsecret=s\ntimeout=-1\n", "timeout '-1' is not a positive"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.ini"
    path.write_bytes(content)
    with pytest.raises(CliError, match=message) as error:
        resolve_access({}, config=str(path))
    assert "secret words" not in str(error.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(CliError, match="cannot read /nowhere/x: there is no such file"):
        resolve_access(ENVIRON, config="/nowhere/x")
