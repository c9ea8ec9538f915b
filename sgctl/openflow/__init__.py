# SPDX-License-Identifier: Apache-2.0
"""The switch's OpenFlow side: flows as bytes, one bridge's connection, and the os-ken application that keeps it.

`encode` and `messages` make bytes, `replies` takes them apart, `switch` holds the conversation with one bridge,
`app` ties it to os-ken by way of `tap`.
"""
