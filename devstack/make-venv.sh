#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make-venv.sh PYTHON DIRECTORY: a virtual environment with pip. Debian keeps what that needs in a package of its own,
# named after the version; any other Python has it built in.
set -euo pipefail
python=$1 directory=$2
here=$(dirname "$0")

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "$("$python" --version) is too old: sgctl needs Python 3.11 (make BASE_PYTHON=/path/to/python3)" >&2
    exit 1
}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    "$here/install-packages.sh" "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
fi
if ! "$directory/bin/python" -m pip --version >/dev/null 2>&1; then # one that works is kept
    "$python" -m venv --clear "$directory"
fi
