# SPDX-License-Identifier: Apache-2.0
"""Run the benchmark: see README.md beside this file.

python -m tests.bench [--cases N,R,M[,G] …] [--repeat K] [--peer ovn] [--peer neutron] [--output FILE.json] [--keep]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench import picture, report
from tests.bench.cloud import Size
from tests.bench.events import Course
from tests.bench.fabric import Fabric
from tests.bench.neutron import Neutron
from tests.bench.ovn import Ovn, OvnAddressSet
from tests.bench.stopwatch import Sample
from tests.bench.system import System

CASES = ("10,10,100", "100,10,1000", "200,20,2000", "500,20,2000", "100,10,1000,5", "100,10,1000,20")
PEERS: dict[str, type[Fabric]] = {"ovn": Ovn, "ovn-set": OvnAddressSet, "neutron": Neutron}
RESULTS = Path(__file__).parent / "results.json"


def size(text: str) -> Size:
    """N,R,M or N,R,M,G."""
    return Size(*map(int, text.split(",")))


def machine() -> dict[str, str]:
    """Where this runs."""
    switch = subprocess.run(["ovs-vswitchd", "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "python": platform.python_version(), "switch": switch.splitlines()[0], "processors": str(os.cpu_count()),
        "kernel": platform.release(), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def measure(kind: type[Fabric], case: Size, repeat: int) -> dict[str, Any]:
    """One case in a cloud of its own."""
    found: dict[str, Any] = {"events": {}, "load": os.getloadavg()[0]}

    def say(event: str, samples: list[Sample]) -> None:
        found["events"][event] = report.summary(samples)
        print(report.line(event, found["events"][event]), file=sys.stderr, flush=True)

    print(f"== {kind.name} {case}", file=sys.stderr)
    with kind() as fabric:
        course = Course(fabric, case, repeat, say)
        try:
            course.run()
        except Exception:
            print(fabric.log(), file=sys.stderr)
            raise
    found["facts"] = {name: round(value, 2) for name, value in course.facts.items()}
    print(found["facts"], file=sys.stderr)
    return found


def all_of(case: Size, peers: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """One case, of sgctl and of its peers, one after the other."""
    found = {"case": str(case), **measure(System, case, options.repeat)}
    able = [name for name in peers if case.ports <= PEERS[name].most_ports]
    return found | {"peers": {name: measure(PEERS[name], case, options.peer_repeat) for name in able}}


def main() -> None:
    """Measure the cases and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=size, default=[size(case) for case in CASES], metavar="N,R,M[,G]")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--peer", nargs="+", choices=[*PEERS, "installed"], default=[], help="measure these too, in the same run"
    )
    parser.add_argument("--peer-repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--keep", action="store_true", help="replace only these cases in the output")
    options = parser.parse_args()
    peers = [name for name, kind in PEERS.items() if name in options.peer or _wanted(kind, options.peer)]
    found = {case["case"]: case for case in json.loads(options.output.read_text())["cases"]} if options.keep else {}
    found |= {str(case): all_of(case, peers, options) for case in options.cases}
    results = {"machine": machine(), "cases": [found[key] for key in sorted(found, key=_order)]}
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    for name, drawn in picture.pictures(results).items():
        options.output.with_name(f"{options.output.stem}{name}.svg").write_text(drawn)
    print(report.tables(results))


def _wanted(kind: type[Fabric], asked: list[str]) -> bool:
    return "installed" in asked and kind.installed()


def _order(case: str) -> tuple[int, ...]:
    one = size(case)
    return one.group_rules, one.ports, one.members


if __name__ == "__main__":
    main()
