# SPDX-License-Identifier: Apache-2.0
"""The `sgctl` command: any command of the API in CloudMonkey's grammar, and an agent's flows, ports and traces.

Read `main`, then `arguments` (grammar), `catalogue` (which commands exist), `client` (calls and jobs) and `views`
(what people see). `rich` is imported only when there is a table to draw, so that scripts and completion stay quick.
"""
