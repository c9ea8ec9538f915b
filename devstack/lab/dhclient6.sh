#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What ISC dhclient calls for DHCPv6: configures the address and writes it to $LEASE, and leaves the rest alone.
# shellcheck disable=SC2154  # dhclient passes these in the environment
set -e
case $reason in
PREINIT6)
    ip link set "$interface" up
    ;;
BOUND6 | RENEW6 | REBIND6 | REBOOT)
    ip -6 address replace "$new_ip6_address/$new_ip6_prefixlen" dev "$interface" nodad
    printf '%s\n\n%s\n' "$new_ip6_address/$new_ip6_prefixlen" "${new_dhcp6_name_servers%% *}" > "$LEASE.new"
    mv "$LEASE.new" "$LEASE"
    ;;
esac
