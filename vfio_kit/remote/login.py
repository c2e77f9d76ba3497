"""How the operator logs in to a GPU host, and the line of shell that starts vfio-kit there."""

from enum import Enum

from vfio_kit.remote.uri import RemoteHost

NOT_INSTALLED, NO_SUDO = 92, 93
"""Exit statuses of that line, where it does not come to vfio-kit."""
_FIND = f"PATH=$PATH:/usr/local/bin; v=$(command -v vfio-kit) || exit {NOT_INSTALLED}; "
_IF_ROOT = '[ "$(id -u)" = 0 ] && exec "$v" remote; '


class Rights(Enum):
    """With whose rights a command runs on the host; the value is the constant line of shell."""

    ROOT = (
        f"{_FIND}{_IF_ROOT}command -v sudo >/dev/null || exit {NO_SUDO}; "
        'exec sudo -n -- "$v" remote'
    )
    ROOT_IF_ALLOWED = (
        f'{_FIND}{_IF_ROOT}sudo -n -l -- "$v" remote >/dev/null 2>&1 '
        '&& exec sudo -n -- "$v" remote; exec "$v" remote'
    )


def login_words(host: RemoteHost) -> list[str]:
    """ssh with what the URI says, up to the host: how the operator logs in there, too."""
    words = ["ssh"]
    if host.port is not None:
        words += ["-p", str(host.port)]
    if host.keyfile is not None:
        words += ["-i", host.keyfile, "-o", "IdentitiesOnly=yes"]
    if host.known_hosts is not None:
        words += ["-o", f"UserKnownHostsFile={host.known_hosts}"]
    return words


def destination(host: RemoteHost) -> str:
    return host.host if host.user is None else f"{host.user}@{host.host}"
