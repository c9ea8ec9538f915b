# SPDX-License-Identifier: Apache-2.0
"""From the command line to running applications, and back out again."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import eventlet
from eventlet.support.greenlets import GreenletExit
from os_ken import cfg
from os_ken.base.app_manager import AppManager
from os_ken.controller import controller, ofp_event  # noqa: F401 - the first registers os-ken's options
from prometheus_client import Gauge

from sgctl.collector import uncollected
from sgctl.config import AGENT, DB, PROGRAM, SWITCH_OPTIONS, Settings, parse, with_default
from sgctl.db.status import leader
from sgctl.dbserver import DatabaseServer
from sgctl.errors import SgctlError
from sgctl.manager.applications import check, load
from sgctl.manager.logs import Unhurried, start_logging
from sgctl.manager.ports import check_free
from sgctl.manager.signals import End
from sgctl.services import Services
from sgctl.store import Database, Interest

LOG = logging.getLogger(__name__)
CLOSE_DEADLINE = 5.0
"""Seconds that applications have to end."""
WATCH = 5.0
"""Seconds between two looks whether the thread that follows the database lives."""
EXPLAIN = 5.0
"""Seconds without the database after which the log says why, and that pass between two looks."""
NO_MEMORY = f"{PROGRAM}: there is no memory left\n".encode()
"""The last words for want of it: nothing has to be made for them."""
#: os-ken would never notice a dead switch.
OSKEN_DEFAULTS: Mapping[str, object] = {
    "maximum_unreplied_echo_requests": 2,
    "echo_request_interval": 5.0,
}
#: Options of os-ken's own applications, which is where they are shown.
OSKEN_GROUPS = ("bgp-app", "test-switch", "zapi")


def launch(arguments: Sequence[str]) -> int:
    """Run the applications until the end; the exit status."""
    try:
        settings = _settings(arguments)
        return _run(settings, start_logging(verbose=settings.verbose))
    except SgctlError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1


def _settings(arguments: Sequence[str]) -> Settings:
    for name, value in OSKEN_DEFAULTS.items():
        cfg.CONF.set_default(name, value)
    cfg.CONF.unregister_opts(SWITCH_OPTIONS)
    cfg.CONF.register_cli_opts(map(with_default, SWITCH_OPTIONS))
    if not any(argument.startswith("os_ken.") for argument in arguments):
        for group in OSKEN_GROUPS:
            cfg.CONF.unregister_opts([cfg.Opt(name) for name in cfg.CONF[group]], group)
    try:
        return parse(cfg.CONF, arguments)
    except SystemExit as end:
        # argparse has said what is wrong (2), or has shown what was asked for (0).
        raise SystemExit(1 if end.code else 0) from None


def _run(settings: Settings, log: Unhurried) -> int:
    end = End()
    threading.excepthook = partial(_thread_failed, end)
    hub = eventlet.hubs.get_hub()
    hub.squelch_timer_exception = partial(_turn_failed, hub.squelch_timer_exception)
    with ExitStack() as stack:
        apps = settings.apps if DB in settings.apps or not settings.serves else (*settings.apps, DB)
        check(apps)
        interest = None if set(apps) - {AGENT, DB} else Interest()
        database = stack.enter_context(_database(settings, interest))
        services = Services(settings, database, interest, end.fail)
        lost = Gauge("sgctl_log_lines_lost", "Lines that nobody took.", registry=services.health.registry)
        lost.set_function(lambda: log.lost)
        services.spawn(_watch, database)
        if interest is None:
            services.spawn(_explain_absence, database)
        stack.enter_context(_applications(settings, apps, services))
        LOG.info("%s of host %s runs %s", PROGRAM, settings.host, ", ".join(apps))
        error = end.wait()
        if error is None:
            LOG.info("asked to end%s", "; the switch goes on enforcing what it has" if AGENT in apps else "")
        else:
            LOG.critical("ends because of an error: %s", error, exc_info=None if _plain(error) else error)
    return 0 if error is None else 1


def _thread_failed(end: End, what: threading.ExceptHookArgs) -> None:
    """No thread may end unnoticed: without it the process would only seem to work."""
    if what.exc_value is not None and not isinstance(what.exc_value, GreenletExit | SystemExit):
        end.fail(what.exc_value)


def _turn_failed(usual: Callable[..., None], timer: object, what: tuple[Any, ...]) -> None:
    """A green thread could not be given its turn, and will not get it any more: for want of memory, that is the end."""
    if issubclass(what[0], MemoryError):
        os.write(2, NO_MEMORY)
        os._exit(1)
    usual(timer, what)


def _watch(database: Database) -> None:
    """Notice when the database's thread has ended, which only a fault of this program does."""
    while database.alive:
        eventlet.sleep(WATCH)
    raise RuntimeError("the SG database is not followed any more")


def _explain_absence(database: Database) -> None:
    """Say why there is no database to write to, such as that all remotes are relays."""
    while True:
        if not database.wait_insync(EXPLAIN):
            try:
                leader(database.remotes)
            except SgctlError as error:
                LOG.warning("%s", error)
        eventlet.sleep(EXPLAIN)


def _plain(error: BaseException) -> bool:
    return isinstance(error, SgctlError)


@contextmanager
def _database(settings: Settings, interest: Interest | None) -> Iterator[Database]:
    """The SG database: that of this process, unless there are remotes."""
    with ExitStack() as stack:
        remotes = settings.db
        if settings.serves:
            _make_state_dir(settings)
            server = stack.enter_context(
                DatabaseServer(
                    settings.state_dir,
                    settings.db_listen,
                    agents=settings.db_listen_agents,
                    member=settings.db_member,
                    relay_of=settings.db_relay_of,
                    tls=settings.db_tls,
                )
            )
            remotes = remotes or server.remote
        yield stack.enter_context(Database(remotes, interest=interest, tls=settings.db_tls))


def _make_state_dir(settings: Settings) -> None:
    try:
        settings.state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        if not os.access(settings.state_dir, os.W_OK | os.X_OK):
            raise PermissionError("no permission to write there")
    except OSError as error:
        raise SgctlError(f"--state-dir {settings.state_dir}: {error.strerror or error}") from error


@contextmanager
def _applications(settings: Settings, apps: Sequence[str], services: Services) -> Iterator[None]:
    """The applications, started; closed in the end, whatever they hang in."""
    manager = AppManager.get_instance()
    with uncollected():
        load(manager, apps)
    if _listens(manager):
        kind = "ssl" if settings.ofp_tls else "tcp"
        check_free(settings.ofp_host, settings.ofp_port, f"OpenFlow (--ofp-{kind}-listen-port)")
    manager.create_contexts()
    manager.contexts["sgctl"] = services
    threads: list[Any] = []
    try:
        threads += manager.instantiate_apps(**manager.contexts)
        _mind_listener(manager, services)
        yield
    finally:
        with eventlet.Timeout(CLOSE_DEADLINE, False):
            manager.close()
            for thread in threads:
                thread.kill()


def _mind_listener(manager: AppManager, services: Services) -> None:
    """If os-ken stops listening to switches (out of descriptors, say) it logs why, and is deaf from then on: end."""
    handler = manager.applications.get(ofp_event.NAME)
    if handler is not None:
        handler.main_thread.link(lambda _: services.fatal(SgctlError("nobody listens to switches any more")))


def _listens(manager: AppManager) -> bool:
    """Whether an application wants switches to connect."""
    return any("ofp_handler" in name for name in manager.applications_cls)
