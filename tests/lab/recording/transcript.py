"""A cast as plain text: what each chapter shows at its end, and how long it really took."""

from .cast import Cast
from .screen import chapters, text

_TOP = """\
vfio-kit in the virtual host: an emulated PC with an IOMMU and a Quadro M4000 whose ids and
driver are real and whose silicon is not. Written by a script (python -m tests.lab.recording);
the commands are typed by it, output and times are those of the run.
Recorded {origin}.
Replay with all waits: asciinema play docs/recording.cast
"""


def transcript(cast: Cast) -> str:
    """The text."""
    parts = [_TOP.format(origin=cast.origin())]
    for chapter in chapters(cast):
        parts.append(f"\n--- {chapter.title}: {chapter.seconds:.1f} s ---\n\n")
        parts.append(text(chapter.frames[-1]))
    return "".join(parts)
