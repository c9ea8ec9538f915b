# SPDX-License-Identifier: Apache-2.0
"""Faults under traffic: `scene` the cloud, `traffic` what must go on, `prober` what must never arrive, `catalogue` and
`database` what goes wrong, `harness` what is measured and promised.  ``python -m tests.faults`` runs them at random."""
