# SPDX-License-Identifier: Apache-2.0
"""What the API can do."""

from importlib.metadata import version

from sgctl.api.command import Answer, Call, Command, Mode, Object, command
from sgctl.api.errors import absent
from sgctl.api.listing import objects
from sgctl.api.params import Param, text

CLOUDSTACK_VERSION = "4.19.0.0"


@command(
    "listApis",
    "Lists the commands that the caller may use.",
    text("name", "only this one"),
    answer="api",
)
def list_apis(call: Call) -> Answer:
    """Clients and the command line's completion are made from it."""
    name = call.args.text("name")
    allowed = [found for found in call.catalogue if found.allowed(call.caller) and name in ("", found.name)]
    if name and not allowed:
        raise absent("name", name)
    return objects(call, [_api(found, admin=call.caller.admin) for found in allowed])


def _api(found: Command, *, admin: bool) -> Object:
    return {
        "name": found.name,
        "description": found.description,
        "since": "",
        "isasync": found.mode is not Mode.SYNC,
        "related": "",
        "params": [_param(param) for param in found.params if admin or not param.admin],
        "response": [],
    }


def _param(param: Param) -> Object:
    return {
        "name": param.name,
        "description": param.description,
        "type": str(param.kind),
        "length": param.length,
        "required": param.required,
        "related": "",
    }


@command("listCapabilities", "Says what this cloud can do.", answer="capability")
def list_capabilities(call: Call) -> Answer:
    """An object, not a list."""
    return {
        "cloudstackversion": CLOUDSTACK_VERSION,
        "sgctlversion": version("sgctl"),
        "securitygroupsenabled": True,
        "supportELB": "false",
        "regionsecondaryenabled": False,
        "userpublictemplateenabled": False,
        "kvmsnapshotenabled": False,
        "allowusercreateprojects": False,
        "projectinviterequired": False,
        "dynamicrolesenabled": False,
        "allowuserviewdestroyedvm": False,
        "allowuserexpungerecovervm": True,
        "defaultpagesize": 500,
    }
