# SPDX-License-Identifier: Apache-2.0
"""The os-ken application that serves the API in a sgctl-manager process."""

from __future__ import annotations

import logging
import time
from typing import Any

from os_ken.base.app_manager import OSKenApp

from sgctl.api.bootstrap import bootstrap, rewrite
from sgctl.api.catalogue import catalogue
from sgctl.api.execute import Executor
from sgctl.api.health import ApiMetrics, listen_health, serve_health
from sgctl.api.sealing import Sealer
from sgctl.api.selfcheck import SelfCheck, check_forever
from sgctl.api.server import endpoint, listen, serve
from sgctl.api.settings import Settings
from sgctl.api.sweep import end_own_jobs, sweep_forever
from sgctl.api.waiting import Front
from sgctl.api.webapp import PATH, Application
from sgctl.config import AGENT
from sgctl.services import Services

LOG = logging.getLogger(__name__)

_PATIENCE = 5.0


class ApiApp(OSKenApp):  # type: ignore[misc]
    """Serves the API once the database is in sync; the socket is there at once, so that early clients wait a little."""

    # os-ken looks for classes of the very module that it was told to load.
    __module__ = "sgctl.api"

    def __init__(self, *args: Any, sgctl: Services, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._services = sgctl
        options = sgctl.settings
        self._endpoint = endpoint(options.api_host, options.api_port, PATH, tls=bool(options.api_cert))
        self._socket = listen(options.api_host, options.api_port, cert=options.api_cert, key=options.api_key)
        self._health = listen_health(options.admin_port) if AGENT not in options.apps else None
        self._front = Front(_PATIENCE)
        self._sealer = Sealer.from_file(options.api_seal_key)
        self._threads: list[Any] = []
        self._serving = False
        replica = sgctl.database.replica
        self._metrics = ApiMetrics(sgctl.health.registry, lambda: replica.insync)
        self._check = SelfCheck(replica, sgctl.health.registry)
        sgctl.health.add("api", lambda: self._serving and replica.insync)

    def start(self) -> Any:
        """Start serving; os-ken calls this once."""
        thread = super().start()
        self._threads.append(self._services.spawn(serve, self._socket, self._front))
        self._threads.append(self._services.spawn(self._open))
        if self._health is not None:
            self._threads.append(self._services.spawn(serve_health, self._health, self._services.health))
        return thread

    def close(self) -> None:
        """Stop; os-ken calls this when it ends."""
        for thread in self._threads:
            thread.kill()
        self._socket.close()
        if self._health is not None:
            self._health.close()

    def _open(self) -> None:
        """Answer as soon as there is something to answer from."""
        services = self._services
        while not services.database.wait_insync(_PATIENCE):
            LOG.warning("still waiting for the SG database")
        options = services.settings
        bootstrap(services.database, options.state_dir, endpoint=self._endpoint, now=round(time.time() * 1000))
        server = f"{options.host}:{options.api_port}"
        settings = Settings(
            endpoint=self._endpoint,
            server=server,
            job_keep_ms=options.job_keep * 60_000,
            quotas=options.quotas,
            host_timeout_ms=options.host_timeout * 1000,
            sealer=self._sealer,
        )
        self._sealer.seal_all(services.database)
        if options.serves and not options.db_relay_of:
            rewrite(services.database, options.state_dir, self._sealer, endpoint=self._endpoint)
        end_own_jobs(services.database, settings, now=round(time.time() * 1000))
        executor = Executor(services.database, catalogue(), settings)
        self._threads.append(services.spawn(sweep_forever, services.database, settings))
        self._threads.append(services.spawn(check_forever, self._check))
        LOG.info("the API is at %s", self._endpoint)
        self._serving = True
        self._front.open(Application(executor, catalogue(), answered=self._metrics.answered))
