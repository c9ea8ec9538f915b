# SPDX-License-Identifier: Apache-2.0
"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# How fast an example runs says more about the machine than about the code: speed is for tests/bench.
settings.register_profile("sgctl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sgctl")
