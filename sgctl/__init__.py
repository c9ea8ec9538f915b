# SPDX-License-Identifier: Apache-2.0
"""sgctl: security groups on Open vSwitch, administered through CloudStack's query API."""
