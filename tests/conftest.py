# SPDX-License-Identifier: Apache-2.0
"""Settings of all tests."""

from hypothesis import HealthCheck, Phase, settings

# How fast an example runs says more about the machine than about the code: speed is for tests/bench.
settings.register_profile("sgctl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# That a test fails is enough there; the shortest example would take a minute.
settings.register_profile("mutants", settings.get_profile("sgctl"), phases=(Phase.explicit, Phase.generate))
settings.load_profile("sgctl")
