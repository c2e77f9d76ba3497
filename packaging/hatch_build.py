"""Build hook: writes the commit that a wheel or an sdist is built from into it, for --version."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FILE = "vfio_kit/_assets/commit"


class CommitHook(BuildHookInterface):
    """What is built from an sdist has the commit from there; elsewhere there may be none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # a checkout, which is read when it is asked
            return
        commit = self._commit()
        if commit is not None:
            self._folder = tempfile.TemporaryDirectory(prefix="vfio-kit-")
            file = Path(self._folder.name, "commit")
            file.write_text(f"{commit}\n", encoding="ascii")
            build_data["force_include"][str(file)] = _FILE

    def finalize(self, *_arguments: Any) -> None:
        if hasattr(self, "_folder"):
            self._folder.cleanup()

    def _commit(self) -> str | None:
        sys.path.insert(0, self.root)
        try:
            from vfio_kit.revision import commit_of  # noqa: PLC0415  (of the tree that is built)

            return commit_of(Path(self.root))
        finally:
            sys.path.remove(self.root)
