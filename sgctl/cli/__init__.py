# SPDX-License-Identifier: Apache-2.0
"""The `sgctl` command: any command of the API in CloudMonkey's grammar, and an agent's flows, ports and traces.

Read `main`, then `arguments` (grammar), `calls` (a command of the API from its words to its result), `catalogue` (which
commands exist), `client` (signed calls and jobs), `views` (what people see of an answer) and `screen` (drawing it);
`admin` asks an agent. `rich` is imported only when there is a table to draw: scripts and completion stay quick.
"""
