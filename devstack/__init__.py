# SPDX-License-Identifier: Apache-2.0
"""Ways to run sgctl on one machine: a lab of network namespaces, the demo, and the DevStack plugin."""
