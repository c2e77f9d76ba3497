"""Where the templates are: inside an installed package, or at the top of a checkout."""

from pathlib import Path

from vfio_kit.errors import VfioKitError

_PACKAGE = Path(__file__).resolve().parent


def asset_dir(name: str) -> Path:
    """The folder `templates` or `cloud-init`, from the wheel or from the source tree."""
    for base in (_PACKAGE / "_assets", _PACKAGE.parent):
        folder = base / name
        if folder.is_dir():
            return folder
    raise VfioKitError(
        f"the folder {name}/ is missing beside {_PACKAGE}", "install vfio-kit again: it is damaged"
    )
