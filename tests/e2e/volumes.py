"""Small file systems of a node's own, on loop devices: filled, frozen, and made to fail for real.

A `Volume` is an ext4 in a file. One whose file lies on another `Volume` is thin: when that one is
full, the device under it fails every write that needs a new block, and the kernel tells so at the
next sync, as of a disk that breaks. Needs root.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

TOOLS = ("mkfs.ext4", "e2fsck", "mount", "umount", "fsfreeze", "chattr")
BLOCK_BYTES = 4096
FSCK_MENDED_MAX = 1
"""Exit codes of e2fsck up to this one: the file system is sound, or it is now."""


class Volume:
    """An ext4 of `size_bytes` in the file `image`, mounted at `point`."""

    def __init__(self, image: Path, point: Path, size_bytes: int) -> None:
        self.image = image
        self.point = point
        self.size_bytes = size_bytes
        self.is_mounted = False
        self._is_frozen = False
        self._is_broken = False

    def __repr__(self) -> str:
        return f"<Volume {self.point} mounted={self.is_mounted} frozen={self._is_frozen}>"

    def make(self) -> None:
        """A new and empty file system, mounted."""
        self.image.parent.mkdir(parents=True, exist_ok=True)
        with self.image.open("wb") as file:
            file.truncate(self.size_bytes)
        # All of it for whoever asks, and nothing written later by the kernel's own leisure.
        options = ("-E", "lazy_itable_init=0,lazy_journal_init=0")
        _run("mkfs.ext4", "-q", "-m", "0", *options, str(self.image))
        self.mount()

    def mount(self) -> None:
        self.point.mkdir(parents=True, exist_ok=True)
        _run("mount", "-o", "loop", str(self.image), str(self.point))
        self.is_mounted = True

    def unmount(self) -> None:
        """Whatever state it is in."""
        self.thaw()
        self.heal_device()
        if self.is_mounted:
            _run("umount", str(self.point))
            self.is_mounted = False

    def mend(self) -> None:
        """What an operator does with a file system that has failed: unmount, check, mount. What was
        never on the device is gone by that, as with a power cut."""
        self.unmount()
        done = subprocess.run(["e2fsck", "-fy", str(self.image)], capture_output=True, check=False)
        assert done.returncode <= FSCK_MENDED_MAX, done.stdout.decode()
        self.mount()

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.point)
        return found.f_bavail * found.f_frsize

    @property
    def is_read_only(self) -> bool:
        """The kernel has given the file system up."""
        return bool(os.statvfs(self.point).f_flag & os.ST_RDONLY)

    def break_device(self) -> None:
        """Every write to the device fails from now on: what lies under it may not be changed."""
        _run("chattr", "+i", str(self.image))
        self._is_broken = True

    def heal_device(self) -> None:
        """The device is well again; the file system may not be (`mend`)."""
        if self._is_broken:
            _run("chattr", "-i", str(self.image))
            self._is_broken = False

    def fill(self, leave_bytes: int = 0) -> None:
        """Take all the room but so much, by a file."""
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT)
        try:
            end = os.fstat(descriptor).st_size
            while (size := self.free_bytes - leave_bytes) > 0:
                # Metadata takes its part, so it goes on with less until nothing fits any more.
                size = max(BLOCK_BYTES, size - size % BLOCK_BYTES)
                while size >= BLOCK_BYTES:
                    try:
                        os.posix_fallocate(descriptor, end, size)
                    except OSError as error:
                        if error.errno != errno.ENOSPC:
                            raise
                        os.ftruncate(descriptor, end)
                        size = size // 2 // BLOCK_BYTES * BLOCK_BYTES
                    else:
                        end += size
                        break
                if size < BLOCK_BYTES:
                    return
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Give it back."""
        self._filler.unlink(missing_ok=True)

    @property
    def _filler(self) -> Path:
        return self.point / "lost+found" / "filler"

    def freeze(self) -> None:
        """Every write waits, in the kernel, until `thaw`."""
        _run("fsfreeze", "-f", str(self.point))
        self._is_frozen = True

    def thaw(self) -> None:
        if self._is_frozen:
            _run("fsfreeze", "-u", str(self.point))
            self._is_frozen = False


def why_unavailable() -> str:
    """Why there can be no volumes here; empty when there can."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} not found"
    if os.geteuid() != 0:
        return "only root can mount"
    with tempfile.TemporaryDirectory() as directory:
        volume = Volume(Path(directory, "image"), Path(directory, "point"), 4 << 20)
        try:
            volume.make()
            volume.unmount()
        except (OSError, subprocess.CalledProcessError) as error:
            text = getattr(error, "stderr", b"") or str(error).encode()
            return f"no loop file systems: {text.decode(errors='replace').strip()}"
    return ""


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=True)
