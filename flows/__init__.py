# SPDX-License-Identifier: Apache-2.0
"""The flow pipeline as pure values: what a hypervisor's switch should do, worked out from `flows.inputs`.

Read `flows.pipeline` first, then `flows.tables` and one module of `flows.stages`; `flows/README.md` follows packets
through them.  Nothing in this package does I/O.
"""
