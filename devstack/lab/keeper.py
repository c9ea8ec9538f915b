# SPDX-License-Identifier: Apache-2.0
"""The process that owns a lab's namespaces, directories and everyone in them.

It runs as a script of its own and reads commands, one a line, from standard input:

* ``new`` makes an anonymous network namespace and answers with its file descriptor here,
* ``drop FD`` kills whoever is in that namespace and lets it go,
* ``directory PATH`` promises to remove PATH.

When standard input ends (the lab was closed, or its process was killed in whatever way) it kills every process that is
in one of its namespaces and removes the directories. So there is one way for a lab to end, and nothing is left of it.
An open descriptor also keeps a namespace's inode number from being used again, so nobody else can be hit.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import sys
import time

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
OWN_NAMESPACE = "/proc/thread-self/ns/net"
SYSCTLS = {
    "net/bridge/bridge-nf-call-iptables": "0",
    "net/bridge/bridge-nf-call-ip6tables": "0",
    "net/bridge/bridge-nf-call-arptables": "0",
    "net/ipv4/ping_group_range": "0 0",
}
"""Set in every namespace, where the kernel has them: bridges that do not filter, pings for root."""

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def setns(descriptor: int) -> None:
    """Move the calling thread into the network namespace of `descriptor`."""
    _checked(_libc.setns(descriptor, CLONE_NEWNET))


def new_namespace() -> int:
    """A new namespace with `lo` up and SYSCTLS set; the caller stays where it is."""
    home = os.open(OWN_NAMESPACE, os.O_RDONLY)
    _checked(_libc.unshare(CLONE_NEWNET))
    try:
        for name, value in SYSCTLS.items():
            path = f"/proc/sys/{name}"
            if os.path.exists(path):
                with open(path, "w") as file:
                    file.write(value)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            request = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
            flags = struct.unpack("16sH14x", request)[1]
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))
        return os.open(OWN_NAMESPACE, os.O_RDONLY)
    finally:
        setns(home)
        os.close(home)


def members(inodes: set[int]) -> list[int]:
    """The processes whose network namespace is one of `inodes`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}/ns/net").st_ino in inodes:
                    found.append(int(name))
            except OSError:
                pass  # it has ended meanwhile
    return found


def kill_members(descriptors: list[int]) -> None:
    """Kill until nobody is left in the namespaces; who forks while dying is found in the next round."""
    inodes = {os.fstat(descriptor).st_ino for descriptor in descriptors}
    while pids := members(inodes):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.005)


def main() -> None:
    """Obey standard input until it ends, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    descriptors: list[int] = []
    directories: list[str] = []
    for line in sys.stdin:
        command, _, argument = line.rstrip("\n").partition(" ")
        if command == "new":
            descriptors.append(new_namespace())
            print(descriptors[-1], flush=True)
        elif command == "drop":
            kill_members([int(argument)])
            descriptors.remove(int(argument))
            os.close(int(argument))
            print("done", flush=True)
        elif command == "directory":
            directories.append(argument)
    kill_members(descriptors)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
