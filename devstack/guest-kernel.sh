#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Put Debian's cloud kernel and its virtio network modules into a directory, without installing a kernel.
set -euo pipefail

directory=$(realpath -m "$1")
[ ! -e "$directory/vmlinuz" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
if [ -z "$package" ]; then
    apt-get update -q
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
fi
apt-get download -q -o APT::Sandbox::User=root "$package"
dpkg -x ./*.deb .
mkdir -p "$directory"
# In the order in which they are loaded.
order=0
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net; do
    order=$((order + 1))
    find lib/modules -name "$module.ko" -exec cp {} "$directory/$order-$module.ko" \;
done
cp boot/vmlinuz-* "$directory/vmlinuz.new"
mv "$directory/vmlinuz.new" "$directory/vmlinuz"
