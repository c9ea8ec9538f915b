# SPDX-License-Identifier: Apache-2.0
"""The stages of the pipeline: one module per table, or per few tables that belong together.

A stage is a set of pure functions from one unit to its flows in those tables; `flows.pipeline` calls them all.
"""
