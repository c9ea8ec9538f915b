# SPDX-License-Identifier: Apache-2.0
"""What speaks and listens inside a VM: one process per VM, told what to do by lines of JSON.

It runs by itself, with the standard library only. A request is ``{"id": 1, "do": "probe", …}`` on standard input, the
answer ``{"id": 1, "result": …}`` or ``{"id": 1, "error": "…"}`` on standard output, in the order in which they are
ready. It ends with its standard input. `devstack.lab.agent.Guest` is the other end; a method ``do_x`` of
`server.Server` is its request ``x``.
"""
