# SPDX-License-Identifier: Apache-2.0
"""Other people's clients, unchanged: Apache Libcloud, Ansible's collection; and CloudMonkey 5's way of asking.

`cs` drives most other tests. Ansible is large, so it is only tried where it is installed: ``make clients``.
"""

import base64
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
import requests
from cs import CloudStack
from libcloud.common.types import LibcloudError, ProviderError
from libcloud.compute.drivers.cloudstack import CloudStackNodeDriver
from libcloud.compute.types import NodeState
from libcloud.loadbalancer.drivers.cloudstack import CloudStackLBDriver

from tests.functional.api_servers import Server, account, pod

HERE = Path(__file__).parent
ANSIBLE = shutil.which("ansible-playbook", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("clients") / "one") as server:
        pod(server.admin(), 41, size=40)
        yield server


@pytest.fixture
def user(server: Server) -> CloudStack:
    return account(server.admin(), server.endpoint)


class TestLibcloud:
    """The compute driver does all that it can do here, the load balancer driver finds nothing."""

    @pytest.fixture
    def place(self, server: Server, user: CloudStack) -> dict[str, Any]:
        where = {"host": "127.0.0.1", "port": server.port, "path": "/client/api"}
        return {"key": user.key, "secret": user.secret, "secure": False, **where}

    @pytest.fixture
    def driver(self, place: dict[str, Any]) -> CloudStackNodeDriver:
        return CloudStackNodeDriver(**place)

    def test_groups(self, driver: CloudStackNodeDriver) -> None:
        made = driver.ex_create_security_group("x a[b]~*", description="ä & b=c+d")
        assert (made["name"], made["description"]) == ("x a[b]~*", "ä & b=c+d")
        assert [group["name"] for group in driver.ex_list_security_groups()] == ["default", "x a[b]~*"]
        assert driver.ex_delete_security_group("x a[b]~*")
        with pytest.raises((LibcloudError, ProviderError)):
            driver.ex_delete_security_group("default")

    def test_rules(self, driver: CloudStackNodeDriver) -> None:
        driver.ex_create_security_group("web")
        ports = {"protocol": "tcp", "startport": 80, "endport": 81}
        tcp = driver.ex_authorize_security_group_ingress("web", cidrlist="0.0.0.0/0", **ports)
        driver.ex_authorize_security_group_ingress("web", cidrlist="::/0", protocol="icmp", icmptype=128, icmpcode=0)
        with pytest.raises(Exception, match="has all of this already"):
            driver.ex_authorize_security_group_ingress("web", cidrlist="0.0.0.0/0", **ports)
        (rule,) = tcp["ingressrule"]
        assert {**ports, "cidr": "0.0.0.0/0"}.items() <= rule.items()
        assert driver.ex_revoke_security_group_ingress(rule["ruleid"])
        (group,) = [group for group in driver.ex_list_security_groups() if group["name"] == "web"]
        assert [rule["protocol"] for rule in group["ingressrule"]] == ["icmp"]

    def test_nodes(self, driver: CloudStackNodeDriver) -> None:
        driver.ex_create_security_group("web")
        (size,), (image,), (location,) = driver.list_sizes(), driver.list_images(), driver.list_locations()
        what = {"size": size, "image": image, "location": location}
        networks = driver.ex_list_networks()
        node = driver.create_node(name="vm1", networks=networks, ex_security_groups=["web"], **what)
        other = driver.create_node(name="vm2", ex_start_vm=False, ex_displayname="a b", **what)
        assert {found.name for found in driver.list_nodes()} == {"vm1", "vm2"}
        found = driver.ex_get_node(node.id)
        assert found.private_ips == node.private_ips
        assert found.extra["security_group"] == ["web"]
        assert driver.ex_get_node(other.id).state == NodeState.STOPPED
        assert [nic.ip_address for nic in driver.ex_list_nics(node)] == node.private_ips
        assert driver.ex_stop(node) == "Stopped"
        assert driver.ex_start(node) == "Starting"
        assert driver.reboot_node(node)
        assert driver.destroy_node(node)
        assert driver.destroy_node(other, ex_expunge=True)
        assert driver.list_nodes() == []

    def test_what_is_not_there(self, driver: CloudStackNodeDriver, place: dict[str, Any]) -> None:
        for listing in (
            driver.ex_list_public_ips, driver.ex_list_port_forwarding_rules, driver.ex_list_ip_forwarding_rules,
            driver.list_volumes, CloudStackLBDriver(**place).list_balancers,
        ):  # fmt: skip
            assert listing() == []


class TestCloudMonkey5:
    """Version 5 needs Python 2; this is what its ``requester.py`` sends and what it looks at in the answer."""

    @staticmethod
    def ask(server: Server, user: CloudStack, command: str, **given: Any) -> tuple[Any, str]:
        """The answer and the error that it would print."""
        expires = time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(time.time() + 600))
        args = {**given, "command": command, "response": "json", "signatureversion": 3, "expires": expires}
        args["apiKey"] = user.key
        pairs = sorted(args.items(), key=lambda pair: pair[0].lower())
        text = "&".join(
            f"{name.lower()}={quote_plus(str(value), safe='*').replace('~', '%7E').lower().replace('+', '%20')}"
            for name, value in pairs
        )
        digest = hmac.new(user.secret.encode(), text.encode(), hashlib.sha1).digest()
        args["signature"] = base64.encodebytes(digest).strip().decode()
        answer = requests.get(server.endpoint, params=args, timeout=60)
        (content,) = [value for key, value in answer.json().items() if "response" in key.lower()]
        if answer.status_code == 401:
            return content, "401 Authentication error"
        return content, "" if answer.ok else f"{answer.status_code}: {answer.headers.get('X-Description')}"

    def job(self, server: Server, user: CloudStack, command: str, **given: Any) -> Any:
        """What it prints when it has waited for a job."""
        content, error = self.ask(server, user, command, **given)
        assert not error
        result, error = self.ask(server, user, "queryAsyncJobResult", jobid=content["jobid"])
        assert not error
        if result["jobstatus"] == 2:
            return f"Error {result['jobresult']['errorcode']}, {result['jobresult']['errortext']}"
        assert result["jobstatus"] == 1
        return result["jobresult"]

    def test_what_it_syncs(self, server: Server, user: CloudStack) -> None:
        content, error = self.ask(server, user, "listApis")
        assert not error
        assert content["count"] == len(content["api"])
        for api in content["api"]:
            assert {"name", "description", "isasync", "params", "response"} <= api.keys()
            assert isinstance(api["params"], list)
            for param in api["params"]:
                assert {"name", "description", "type", "length", "required"} <= param.keys()
                assert isinstance(param["length"], int)

    def test_groups_and_rules(self, server: Server, user: CloudStack) -> None:
        content, error = self.ask(server, user, "createSecurityGroup", name="a b~*[x]", description="ä: +%")
        assert (error, content["securitygroup"]["name"]) == ("", "a b~*[x]")
        named = {
            "usersecuritygrouplist[0].account": content["securitygroup"]["account"],
            "usersecuritygrouplist[0].group": "default",
        }
        port = {"securitygroupname": "a b~*[x]", "protocol": "TCP", "startport": 22, "endport": 22}
        made = self.job(server, user, "authorizeSecurityGroupIngress", **port, **named)
        assert made["securitygroup"]["ingressrule"][0]["securitygroupname"] == "default"
        text = self.job(server, user, "authorizeSecurityGroupIngress", **port, cidrlist="10.0.0.0/33")
        assert text.startswith("Error 431, ")

    def test_errors(self, server: Server, user: CloudStack) -> None:
        assert self.ask(server, user, "createSecurityGroup")[1] == (
            "431: Unable to execute API command createsecuritygroup due to missing parameter name"
        )
        assert self.ask(server, user, "createZone")[1] == "401 Authentication error"


@pytest.mark.clients
@pytest.mark.timeout(300)
def test_ansible(tmp_path: Path) -> None:
    with Server(tmp_path / "one") as server:
        admin = server.admin()
        who = {"admin": admin, "user": account(admin, server.endpoint)}
        variables: dict[str, Any] = {
            name: {
                "CLOUDSTACK_ENDPOINT": server.endpoint, "CLOUDSTACK_KEY": client.key, "CLOUDSTACK_SECRET": client.secret
            } for name, client in who.items()
        }  # fmt: skip
        assert ANSIBLE is not None, "Ansible with ngine_io.cloudstack is not installed: make clients"
        variables["ansible_python_interpreter"] = str(Path(ANSIBLE).with_name("python"))
        command = [ANSIBLE, "-i", "localhost,", str(HERE / "clients.yml"), "-e", json.dumps(variables)]
        home = {"ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **home}, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        assert "Traceback" not in server.log
