"""A machine with a systemd of its own: booted in a container over a throw-away copy of this machine's root, gone when it is closed. Nothing here is changed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
PROGRAM = Path("/opt/agentwatch")
USER, UID = "dev", 4711
HOME = Path("/home", USER)

BOOT = """
set -e
mount -t tmpfs tmpfs "$SCRATCH"
mkdir "$SCRATCH/upper" "$SCRATCH/work" "$SCRATCH/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work" "$SCRATCH/root"
cd "$SCRATCH/root"
: > etc/machine-id
for unit in $(systemctl list-unit-files --state=enabled --no-legend | grep -oE '^[^ ]+[.](service|timer|socket)'); do ln -sf /dev/null "etc/systemd/system/$unit"; done
cp -a "$BUILT" opt/agentwatch
for folder in $OPEN; do chmod o+x ".$folder"; done
exec systemd-nspawn --quiet --directory=. --machine="$MACHINE" --register=no --keep-unit --private-network --console=pipe $BINDS --boot systemd.unit=multi-user.target
"""


def missing():
    """Why no machine can be booted here; None where it can."""
    if os.geteuid() != 0:
        return "a container is booted by root"
    for program in ("systemd-nspawn", "systemctl", "nsenter", "unshare"):
        if shutil.which(program) is None:
            return f"`{program}` is not installed (Debian: systemd-container)"
    return None


class Machine:
    """Booted when it is made. Commands run in it as root, or `as_user`."""

    def __init__(self, base):
        self.scratch = Path(tempfile.mkdtemp(prefix="agentwatch-machine-"))
        libraries = [path for path in dict.fromkeys(sys.path) if path.endswith("site-packages")]
        environ = {
            "PATH": os.environ["PATH"],
            "SCRATCH": str(self.scratch),
            "MACHINE": f"agentwatch-{os.getpid()}",
            "BUILT": str(_built(base, len(libraries))),
            "OPEN": " ".join(str(path) for path in Path(sys.base_prefix).parents if path != Path("/")),
            "BINDS": " ".join(f"--bind-ro={path}:/opt/libraries/{number}" for number, path in enumerate(libraries)),
        }
        self._said = (base / "boot.txt").open("wb")
        command = ["unshare", "--mount", "--propagation", "private", "bash", "-c", BOOT]
        self._nspawn = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said)
        self._leader = self._wait_for_boot(base / "boot.txt")
        self.run("useradd", "--create-home", "--uid", UID, USER)
        self.run("loginctl", "enable-linger", USER)
        self.until(lambda: self.path(f"/run/user/{UID}/bus").exists())

    def _wait_for_boot(self, said):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert self._nspawn.poll() is None, said.read_text(errors="replace")
            for child in psutil.Process(self._nspawn.pid).children():
                self._leader = child.pid
                if self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded"):
                    return child.pid
            time.sleep(0.1)
        raise AssertionError(said.read_text(errors="replace"))

    def command(self, *words, as_user=False, environ=None, namespaces="-a"):
        given = {"PATH": f"{PROGRAM}/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "HOME": "/root", **(environ or {})}
        prefix = ["nsenter", "-t", str(self._leader), *namespaces.split(), "--"]
        if as_user:
            given = {
                **given,
                "HOME": str(HOME),
                "XDG_RUNTIME_DIR": f"/run/user/{UID}",
                "DBUS_SESSION_BUS_ADDRESS": f"unix:path=/run/user/{UID}/bus",
                **(environ or {}),
            }
            prefix += ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--init-groups"]
        return [*prefix, "env", "-i", *(f"{name}={value}" for name, value in given.items()), *words]

    def run(self, *words, check=True, as_user=False, environ=None, cwd="/"):
        """What it printed, errors included."""
        command = self.command("sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(cwd), *map(str, words), as_user=as_user, environ=environ)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
        text = done.stdout.decode(errors="replace")
        assert done.returncode == 0 or not check, f"{' '.join(map(str, words))}: {done.returncode}\n{text}"
        return text

    @staticmethod
    def until(condition, timeout=60.0):
        """What `condition` gives once that is true."""
        end = time.monotonic() + timeout
        while not (found := condition()):
            assert time.monotonic() < end, "it does not come about"
            time.sleep(0.1)
        return found

    def path(self, path):
        """A file of the machine, as this process sees it."""
        return Path(f"/proc/{self._leader}/root", str(path).lstrip("/"))

    def close(self):
        psutil.Process(self._leader).send_signal(signal.SIGRTMIN + 4)
        try:
            self._nspawn.wait(20)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._said.close()
        self.scratch.rmdir()


def _built(base, libraries):
    """The program as its wheel installs it, in an environment for `PROGRAM`; the libraries are those of this process."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(base / "wheel")], cwd=ROOT, capture_output=True, check=True)
    built = base / "built"
    packages = built / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    (wheel,) = (base / "wheel").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(packages)
    (packages / "libraries.pth").write_text("".join(f"/opt/libraries/{number}\n" for number in range(libraries)))
    (built / "bin").mkdir()
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    (built / "bin" / "python").symlink_to(python)
    (built / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    program = built / "bin" / "agentwatch"
    program.write_text(f"#!{PROGRAM}/bin/python -P\nfrom agentwatch.__main__ import main\nmain()\n")
    program.chmod(0o755)
    return built
