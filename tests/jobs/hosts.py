"""Hosts of a cluster on one machine: namespaces of network, processes, names and shared memory.

::

    switch (a bridge) --- hosta 10.77.9.1
                      --- hostb 10.77.9.2
                      --- hostc 10.77.9.3

Ranks of two hosts see neither the processes nor the memory of each other. `Hosts.cut` takes a
host off the network; its processes stay. What stands for ssh asks a thread here, by a socket, to
run a command on another host: only from here all of them can be entered.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

NAMES = ("hosta", "hostb", "hostc")
_NET = "10.77.9"
_OWN = ["--net", "--uts", "--ipc", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child"]

_AGENT = """\
#!{python}
import os, socket, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    del words[0]
broker = socket.socket(socket.AF_UNIX)
broker.connect({broker!r})
text = "\\0".join([words[0], os.getcwd(), " ".join(words[1:])])
socket.send_fds(broker, [text.encode()], [0, 1, 2])
sys.exit(int(broker.recv(16) or b"255"))
"""


def can_be_made() -> bool:
    """Whether this user may make namespaces here, and the programs for it are there."""
    if os.geteuid() or not all(map(shutil.which, ("ip", "unshare", "nsenter"))):
        return False
    return not subprocess.run(["unshare", *_OWN, "true"], capture_output=True).returncode


class Hosts:
    """A context in which the hosts exist.

    Parameters
    ----------
    folder : Path
        For the program that stands for ssh, which is ``agent``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._switch = 0
        self._hosts: dict[str, int] = {}
        self.agent = folder / "agent"

    def __enter__(self) -> Hosts:
        self._switch = self._start(["unshare", "--net", "sleep", "infinity"])
        table = self._folder / "hosts"
        lines = [f"{_NET}.{number} {name}\n" for number, name in enumerate(NAMES, 1)]
        table.write_text("127.0.0.1 localhost\n" + "".join(lines))
        for name in NAMES:
            up = self._folder / f"{name}.up"
            script = f"mount --bind {table} /etc/hosts; mount -t tmpfs tmpfs /dev/shm; "
            script += f"hostname {name}; touch {up}; exec sleep infinity"
            outer = self._start(["unshare", *_OWN, "sh", "-c", script])
            until = time.monotonic() + 20
            while not up.exists() and time.monotonic() < until:
                time.sleep(0.01)
            children = Path(f"/proc/{outer}/task/{outer}/children").read_text()
            self._hosts[name] = int(children.split()[0])
        self._connect()
        self._open_broker()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        for process in self._processes:
            process.kill()  # a host's processes end with its first one
            process.wait()

    def on(self, name: str, *command: object, cwd: str | None = None) -> list[str]:
        """Return a command that runs another one on a host."""
        enter = ["nsenter", "-t", str(self._hosts[name]), "-n", "-u", "-i", "-p", "-m"]
        return [*enter, f"--wd={cwd or os.getcwd()}", *map(str, command)]

    def cut(self, name: str) -> None:
        """Take a host off the network."""
        self._ip(self._switch, "link", "set", f"to-{name}", "down")

    def runs(self, name: str, word: str) -> bool:
        """Return whether a process of a host has a word in its command line."""
        script = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
        listed = subprocess.run(
            self.on(name, "sh", "-c", script), capture_output=True, text=True, errors="replace"
        )
        return word in listed.stdout

    def _start(self, command: list[str]) -> int:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._processes.append(process)
        return process.pid

    def _connect(self) -> None:
        self._ip(self._switch, "link", "add", "br0", "type", "bridge")
        self._ip(self._switch, "link", "set", "br0", "up")
        for number, (name, pid) in enumerate(self._hosts.items(), 1):
            port = f"to-{name}"
            ends = ["link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", pid]
            self._ip(self._switch, *ends)
            self._ip(self._switch, "link", "set", port, "master", "br0", "up")
            self._ip(pid, "link", "set", "lo", "up")
            self._ip(pid, "addr", "add", f"{_NET}.{number}/24", "dev", "eth0")
            self._ip(pid, "link", "set", "eth0", "up")

    def _ip(self, pid: int, *words: object) -> None:
        command = ["nsenter", "-t", str(pid), "-n", "ip", *map(str, words)]
        subprocess.run(command, check=True, capture_output=True)

    def _open_broker(self) -> None:
        path = str(self._folder / "broker")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen()
        self.agent.write_text(_AGENT.format(python=sys.executable, broker=path))
        self.agent.chmod(0o755)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                asked, _ = self._listening.accept()
            except OSError:  # it is over
                return
            threading.Thread(target=self._run, args=(asked,), daemon=True).start()

    def _run(self, asked: socket.socket) -> None:
        data, streams, _, _ = socket.recv_fds(asked, 1 << 20, 3)
        name, cwd, text = data.decode().split("\0")
        stdin, stdout, stderr = streams
        process = subprocess.Popen(
            self.on(name, "sh", "-c", text, cwd=cwd), stdin=stdin, stdout=stdout, stderr=stderr
        )
        for stream in streams:
            os.close(stream)
        with asked, contextlib.suppress(OSError):  # the launcher is gone
            asked.sendall(str(process.wait() & 0xFF).encode())
