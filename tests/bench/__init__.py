# SPDX-License-Identifier: Apache-2.0
"""How fast sgctl is: see README.md in this directory, and `python -m tests.bench --help`."""
