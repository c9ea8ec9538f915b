#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What busybox's udhcpc calls: configures the interface and writes the lease to $LEASE. It leaves /etc/resolv.conf
# alone, which belongs to the machine that the lab runs on.
# shellcheck disable=SC2154  # udhcpc passes these in the environment
set -e
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip address replace "$ip/$mask" dev "$interface"
for gateway in $router; do
    ip route replace default via "$gateway"
    break
done
printf '%s\n%s\n%s\n' "$ip/$mask" "${router%% *}" "${dns%% *}" > "$LEASE.new"
mv "$LEASE.new" "$LEASE"
