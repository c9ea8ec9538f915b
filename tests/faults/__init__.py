# SPDX-License-Identifier: Apache-2.0
"""Faults under traffic: `scene` the cloud, `traffic` what must go on, `prober` what must never arrive, `catalogue` and
`database` what goes wrong, `harness` what is measured and promised.  ``python -m tests.faults`` runs them at random.

VMs that move meanwhile: `fleet` the cloud, `ways` what must go on, `intruders` who must not get in, `watch` what each
hypervisor delivers, `troubles` what goes wrong, `journeys` how they move, `movesoak` what is promised.
"""
