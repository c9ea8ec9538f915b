#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# DevStack plugin: runs sgctl-manager against the integration bridge of a DevStack node.
#
# DevStack sources this with `stack PHASE`, `unstack` or `clean`; the functions below are one for each thing to do.
# shellcheck disable=SC2154,SC2153  # the SGCTL_ variables are in `settings`, the rest is DevStack's

# Install what sgctl needs, and sgctl from its checkout, editable.
function install_sgctl {
    install_package openvswitch-switch
    setup_develop "$SGCTL_DIR"
}

# Write the configuration file; an existing one is replaced.
function configure_sgctl {
    local uplink
    sudo install -d -o "$STACK_USER" "$SGCTL_CONF_DIR"
    sudo install -d -m 0700 "$SGCTL_STATE_DIR"
    : >"$SGCTL_CONF"
    iniset "$SGCTL_CONF" DEFAULT host "$(hostname -s)"
    iniset "$SGCTL_CONF" DEFAULT ovsdb_connection "$SGCTL_OVSDB_CONNECTION"
    iniset "$SGCTL_CONF" DEFAULT bridge "$SGCTL_BRIDGE"
    for uplink in $SGCTL_UPLINKS; do
        iniadd "$SGCTL_CONF" DEFAULT uplink "$uplink"
    done
    if [[ -n "$SGCTL_DB" ]]; then
        iniset "$SGCTL_CONF" DEFAULT db "$SGCTL_DB"
    else
        iniset "$SGCTL_CONF" DEFAULT db_listen "$SGCTL_DB_LISTEN"
    fi
    iniset "$SGCTL_CONF" DEFAULT state_dir "$SGCTL_STATE_DIR"
    iniset "$SGCTL_CONF" DEFAULT api_host "$SGCTL_API_HOST"
    iniset "$SGCTL_CONF" DEFAULT api_port "$SGCTL_API_PORT"
}

# Make the bridge if it is not there, with its uplinks, and start the manager. The bridge is secure from the start, so
# that nothing forwards before the manager says what may. It runs as root: it talks to the switch's control sockets.
function start_sgctl {
    local uplink
    sudo ovs-vsctl --may-exist add-br "$SGCTL_BRIDGE" -- set bridge "$SGCTL_BRIDGE" fail_mode=secure
    for uplink in $SGCTL_UPLINKS; do
        sudo ovs-vsctl --may-exist add-port "$SGCTL_BRIDGE" "$uplink"
    done
    run_process sgctl-manager "$(command -v sgctl-manager) --config-file $SGCTL_CONF $SGCTL_APPS" "" root
}

# Stop the manager; the switch goes on enforcing what it has.
function stop_sgctl {
    stop_process sgctl-manager
}

# Give the bridge back and remove configuration and database. A bridge whose switch does not run cannot be released: it
# loses its controller at least.
function clean_sgctl {
    sudo "$(command -v sgctl-bridge)" --config-file "$SGCTL_CONF" release || echo "sgctl: $SGCTL_BRIDGE is not released"
    sudo ovs-vsctl --if-exists del-controller "$SGCTL_BRIDGE"
    sudo ovs-vsctl --if-exists del-fail-mode "$SGCTL_BRIDGE"
    sudo rm -rf "$SGCTL_CONF_DIR" "$SGCTL_STATE_DIR"
}

if is_service_enabled sgctl-manager; then
    case "$1 ${2:-}" in
    "stack install") install_sgctl ;;
    "stack post-config") configure_sgctl ;;
    "stack extra") start_sgctl ;;
    "unstack "*) stop_sgctl ;;
    "clean "*) clean_sgctl ;;
    esac
fi
