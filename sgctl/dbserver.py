# SPDX-License-Identifier: Apache-2.0
"""The SG database of this process: an `ovsdb-server` in the state directory, supervised.

It is a stand-alone database, a member of a RAFT cluster, or a relay of one, which has no file.

State directory: ``sg.db`` the data, ``sg.sock`` where it serves, ``sg.ctl`` and ``sg.pid`` its control socket and
process id, ``ovsdb-server.log`` what it says, ``sg.lock`` held by the manager that uses the directory, ``local.db``
where it listens to agents if they have a port of their own.

The server dies with its supervisor, even by SIGKILL: the kernel sends it PR_SET_PDEATHSIG when the *thread* that
started it ends. So only the supervising thread starts it, and that thread lives as long as the server is wanted. (Under
a monkey-patched eventlet it is the main thread.)
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from types import TracebackType
from typing import IO, Self

from sgctl import dbfile
from sgctl.dbfile import Member
from sgctl.errors import SgctlError
from sgctl.tls import Tls

LOG = logging.getLogger(__name__)
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.02
_STEADY_SECONDS = 1.0
_BACKOFF_SECONDS = (0.1, 2.0)
_LOG_BYTES = 1 << 20


class DatabaseServerError(SgctlError):
    """The database server cannot be started."""


class DatabaseServer:
    """An `ovsdb-server` for a state directory.

    listen: further OVSDB remotes, with commas between them, such as ``ptcp:6641:127.0.0.1``.
    agents: those where clients have the role of agents.  member: of a cluster.  relay_of: servers to be a relay of.
    tls: who it is on ssl: connections.
    """

    def __init__(
        self,
        directory: Path,
        listen: str = "",
        *,
        agents: str = "",
        member: Member | None = None,
        relay_of: str = "",
        tls: Tls | None = None,
    ) -> None:
        self.directory = directory
        self.listen, self.agents = (tuple(filter(None, remotes.split(","))) for remotes in (listen, agents))
        self._member, self._relay_of, self._tls = member, relay_of, tls
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._reset()

    def _reset(self) -> None:
        self._ear, self._bell = socket.socketpair()
        self._settled, self._stopping = Event(), False
        self._failure: DatabaseServerError | None = None
        self._thread = Thread(target=self._supervise, name="sgctl-dbserver", daemon=True)

    @property
    def remote(self) -> str:
        """Where clients on this machine connect."""
        return f"unix:{self.directory / 'sg.sock'}"

    @property
    def pid(self) -> int | None:
        """The server's process id, while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def start(self) -> None:
        """Make or convert the file, start the server and wait until it serves; `SgctlError` says what is wrong."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(self.directory)
        try:
            self._prepare()
            self._thread.start()
            self._settled.wait()
            if self._failure is not None:
                raise self._failure
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server; what it has answered is on disk. It can be started again."""
        self._stopping = True
        self._bell.close()
        if self._thread.ident is not None:
            self._thread.join()
        self._ear.close()
        if self._lock is not None:
            self._lock.close()
        self._reset()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _prepare(self) -> None:
        path = self.directory / "sg.db"
        if self._member is not None:
            dbfile.prepare_member(path, self._member)
        elif not self._relay_of:
            dbfile.prepare(path)
        if self.agents:
            dbfile.prepare_local(self.directory / "local.db", self.agents)

    def _supervise(self) -> None:
        """Keep it running; a first start that fails is the last."""
        shortest, longest = _BACKOFF_SECONDS
        pause = 0.0
        try:
            while not self._stopping:
                started = monotonic()
                self._run()
                if self._stopping or not self._settled.is_set():
                    return
                steady = monotonic() - started > _STEADY_SECONDS
                pause = shortest if steady else min(max(2 * pause, shortest), longest)
                LOG.warning("database server ended, starting it again in %.1f s: %s", pause, self._why())
                select.select([self._ear], [], [], pause)
        except DatabaseServerError as error:
            self._failure = error
        finally:
            self._settled.set()

    def _run(self) -> None:
        """One life of the server; what goes wrong is an error the first time, and later a reason to try again."""
        try:
            if self._member is None and not self._relay_of:
                dbfile.check(self.directory / "sg.db")
            process = self._process = self._spawn()
            try:
                self._await(process)
                self._settled.set()
                LOG.info("%s serves %s", self._described(), " ".join((self.remote, *self.listen, *self.agents)))
                _wait(process, self._ear)
            finally:
                _end(process)
        except (DatabaseServerError, dbfile.DatabaseFileError, OSError) as error:
            if not self._settled.is_set():
                raise DatabaseServerError(str(error)) from error
            LOG.warning("database server: %s", error)

    def _described(self) -> str:
        if self._member is not None:
            return f"member {self._member.local} of a database cluster"
        return f"relay of {self._relay_of}" if self._relay_of else "database server"

    def _databases(self) -> list[str]:
        """The command's last words: what it serves."""
        main = f"relay:{dbfile.DATABASE}:{self._relay_of}" if self._relay_of else str(self.directory / "sg.db")
        return [main, *([str(self.directory / "local.db")] if self.agents else [])]

    def _spawn(self) -> subprocess.Popen[bytes]:
        remotes = [f"--remote=punix:{self.directory / 'sg.sock'}", *(f"--remote={remote}" for remote in self.listen)]
        remotes += ["--remote=db:SG_Local,Config,connections"] if self.agents else []
        remotes += self._tls.options() if self._tls else []
        own = [f"--unixctl={self.directory / 'sg.ctl'}", f"--pidfile={self.directory / 'sg.pid'}"]
        logs = ["-vsyslog:off", "-vconsole:info", "-vPATTERN:console:%D{%Y-%m-%dT%H:%M:%SZ} %p %c: %m"]
        command = [program("setpriv"), "--pdeathsig", "KILL", program("ovsdb-server"), *logs, *remotes, *own]
        with _log_file(self.directory / "ovsdb-server.log") as log:
            return subprocess.Popen(
                [*command, *self._databases()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=0o077,
                start_new_session=True,
            )

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        """Until it serves on all remotes."""
        until = monotonic() + _START_SECONDS
        while not self._answers(process.pid):
            if self._stopping:
                return
            if process.poll() is not None:
                raise DatabaseServerError(f"ovsdb-server does not start: {self._last_words()}")
            if monotonic() > until:
                raise DatabaseServerError(f"ovsdb-server does not answer within {_START_SECONDS:.0f} s")
            sleep(_POLL_SECONDS)
        wanted = (*self.listen, *self.agents)
        for remote in set(wanted) - set(listening(process.pid, wanted)):
            raise DatabaseServerError(f"the database cannot listen on {remote}: {self._last_words()}")

    def _answers(self, pid: int) -> bool:
        """Whether it is this process that holds the directory's process id file and answers on the control socket."""
        try:
            if int((self.directory / "sg.pid").read_text()) != pid:
                return False
        except (OSError, ValueError):
            return False
        command = [program("ovs-appctl"), "--timeout=5", "-t", str(self.directory / "sg.ctl"), "version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _why(self) -> str:
        """Why it has ended."""
        status = 0 if self._process is None else self._process.returncode
        return f"killed by {signal.Signals(-status).name}" if status < 0 else self._last_words()

    def _last_words(self) -> str:
        """The last line of its log that is a complaint, or the last of all."""
        path = self.directory / "ovsdb-server.log"
        lines = path.read_text(errors="replace").splitlines()[-20:] if path.exists() else []
        complaints = [line for line in lines if " ERR " in line or " EMER " in line or line.startswith("ovsdb-server:")]
        return (complaints or lines or ["it says nothing"])[-1]


def listening(pid: int, remotes: Sequence[str]) -> list[str]:
    """Those of the passive remotes on whose port this process really listens.

    A port that somebody else has is only logged by ovsdb-server, and clients would talk to a stranger.
    """
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(os.readlink(descriptor))
        except FileNotFoundError:
            continue
    ports = {0}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and f"socket:[{cells[9]}]" in sockets:
                ports.add(int(cells[1].rpartition(":")[2], 16))
    return [remote for remote in remotes if remote.startswith("punix:") or _port(remote) in ports]


def _port(remote: str) -> int:
    _, _, rest = remote.partition(":")
    text = rest.partition(":")[0]
    return int(text) if text.isdigit() else -1


def _locked(directory: Path) -> IO[str]:
    lock = (directory / "sg.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise DatabaseServerError(f"another sgctl-manager uses the state directory {directory}") from error
    return lock


def _log_file(path: Path) -> IO[bytes]:
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def program(name: str) -> str:
    """Where a program is; raises DatabaseServerError if it is not installed."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))
    if found is None:
        raise DatabaseServerError(f"{name} is not installed (packages openvswitch-switch and util-linux)")
    return found


def _wait(process: subprocess.Popen[bytes], ear: socket.socket | None = None, timeout: float | None = None) -> None:
    """Until it ends, or `ear` hears something, or the time is over."""
    pidfd = os.pidfd_open(process.pid)
    try:
        select.select([pidfd, *([] if ear is None else [ear.fileno()])], [], [], timeout)
    finally:
        os.close(pidfd)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        _wait(process, timeout=_STOP_SECONDS)
    if process.poll() is None:
        process.kill()
        _wait(process)
    process.wait()
