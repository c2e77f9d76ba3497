"""NVIDIA's samples, of which deviceQuery is built in the guest: host code, whatever the toolkit.

Source: https://github.com/NVIDIA/cuda-samples (BSD-style licence), its tags.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Samples:
    """An archive of the samples; `sha256` is None where none was published by two."""

    tag: str
    uri: str
    sha256: str | None


_URI = "https://github.com/NVIDIA/cuda-samples/archive/refs/tags/"

SAMPLES = Samples("v11.4.1", f"{_URI}v11.4.1.tar.gz", None)
"""GitHub makes the archive when it is asked for, and nobody publishes its checksum: the tag and
GitHub's own certificate vouch for it. In a bundle it has its checksum in SHA256SUMS."""
