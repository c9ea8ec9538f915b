# SPDX-License-Identifier: Apache-2.0
"""Run the benchmark: `python -m tests.bench [--cases N,R,M[,G] …] [--repeat K] [--output FILE.json]`."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.bench.cloud import Size
from tests.bench.events import Course, Sample
from tests.bench.system import System, as_json

CASES = ("10,10,100", "100,10,1000", "200,20,2000", "500,20,2000")
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


def measure(case: Size, repeat: int) -> dict[str, Any]:
    """One case in a cloud of its own."""
    found: dict[str, Any] = {"case": str(case), "events": {}, "load": os.getloadavg()[0]}

    def say(event: str, samples: list[Sample]) -> None:
        found["events"][event] = report.summary(samples)
        print(report.line(event, found["events"][event]), file=sys.stderr, flush=True)

    print(f"== {case}", file=sys.stderr)
    with System() as system:
        course = Course(system, case, repeat, say)
        try:
            course.run()
        except Exception:
            print(system.agent.log.read_text()[-3000:], file=sys.stderr)
            raise
    found["facts"] = {name: round(value, 2) for name, value in course.facts.items()}
    print(found["facts"], file=sys.stderr)
    return found


def main() -> None:
    """Measure the cases and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", type=size, default=[size(case) for case in CASES], metavar="N,R,M[,G]")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    results = {"machine": machine(), "cases": [measure(case, options.repeat) for case in options.cases]}
    options.output.write_text(as_json(results))
    options.output.with_suffix(".svg").write_text(report.picture(results))
    print(report.table(results))


if __name__ == "__main__":
    main()
