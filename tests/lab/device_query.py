"""Builds deviceQuery in an image that is being made, from Debian's own CUDA 11.8.

    python device_query.py ROOT

A hook of mmdebstrap's: apt has its lists.  The source is NVIDIA's, of nvidia-cuda-samples; the
headers are nvidia-cuda-dev's, which is not installed, for it brings the libcuda of driver 535.
11.8's runtime works with driver 470, by NVIDIA's minor-version compatibility.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

_PACKAGES = ("nvidia-cuda-dev", "nvidia-cuda-samples")
_EXAMPLES = "usr/share/doc/nvidia-cuda-toolkit/examples"
_HEADERS = "usr/include"
_COMMON = f"{_EXAMPLES}/Common"
_SOURCE = f"{_EXAMPLES}/Samples/1_Utilities/deviceQuery"
_RUNTIME = "/usr/lib/x86_64-linux-gnu/libcudart.so.11.0"


def build(root: Path) -> None:
    """Leave /usr/local/bin/deviceQuery in `root`, and nothing else."""
    with tempfile.TemporaryDirectory(dir=root / "root") as name:
        work = Path(name)
        environment = os.environ | {"APT_CONFIG": os.environ["MMDEBSTRAP_APT_CONFIG"]}
        command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *_PACKAGES]
        subprocess.run(command, cwd=work, env=environment, check=True)
        _extract(next(work.glob("nvidia-cuda-dev_*.deb")), work, (_HEADERS,))
        _extract(next(work.glob("nvidia-cuda-samples_*.deb")), work, (_COMMON, _SOURCE))
        inside = Path("/") / work.relative_to(root)
        argv: list[str | Path] = ["chroot", root, "g++", "-O2", "-o", "/usr/local/bin/deviceQuery"]
        argv += [f"-I{inside / folder}" for folder in (_HEADERS, _COMMON)]
        subprocess.run([*argv, inside / _SOURCE / "deviceQuery.cpp", _RUNTIME], check=True)


def _extract(package: Path, to: Path, folders: tuple[str, ...]) -> None:
    """Unpack the folders, which stand in this order, and no more: nvidia-cuda-dev has 2.8 GB."""
    unpack = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
    with unpack, tarfile.open(fileobj=unpack.stdout, mode="r|") as archive:
        began = False
        for member in archive:
            wanted = [f for f in folders if member.name.startswith(f"./{f}/")]
            if wanted and not member.isdir():
                archive.extract(member, to)
            began = began or wanted == [folders[-1]]
            if began and not wanted:
                break
        unpack.kill()


if __name__ == "__main__":
    build(Path(sys.argv[1]))
