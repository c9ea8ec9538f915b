# SPDX-License-Identifier: Apache-2.0
"""The commands of the API, a module per noun; `sgctl.api.catalogue` finds them."""
