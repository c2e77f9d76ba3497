"""Words of ssh_config(5): the keywords that have an effect here, and what %h and its like mean."""

import hashlib
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

from vfio_kit.guest.ssh_config_file import Asked, Settings, Statement, local_user

_HONOURED = """
addressfamily canonicaldomains canonicalizefallbacklocal canonicalizehostname
canonicalizemaxdots certificatefile connecttimeout globalknownhostsfile hostkeyalias hostname
identitiesonly identityagent identityfile port proxycommand proxyjump proxyusefdpass
revokedhostkeys user userknownhostsfile
"""

_WITHOUT_EFFECT = """
addkeystoagent batchmode checkhostip clearallforwardings compression connectionattempts
controlmaster controlpath controlpersist dynamicforward enableescapecommandline enablesshkeysign
escapechar exitonforwardfailure fingerprinthash forkafterauthentication forwardagent forwardx11
forwardx11timeout forwardx11trusted gatewayports gssapiauthentication gssapidelegatecredentials
hashknownhosts hostbasedauthentication ignoreunknown ipqos kbdinteractiveauthentication
localcommand localforward loglevel logverbose nohostauthenticationforlocalhost
numberofpasswordprompts obscurekeystroketiming passwordauthentication permitlocalcommand
permitremoteopen preferredauthentications pubkeyauthentication rekeylimit remoteforward
requesttty sendenv serveralivecountmax serveraliveinterval setenv stdinnull
stricthostkeychecking syslogfacility tag tcpkeepalive tunnel tunneldevice updatehostkeys
usekeychain visualhostkey xauthlocation
"""
"""On one connection that runs commands and asks nobody; host keys are verified whatever is set."""

_UNDERSTOOD = frozenset(_HONOURED.split()) | frozenset(_WITHOUT_EFFECT.split())

_FILES = frozenset(
    (
        "certificatefile",
        "globalknownhostsfile",
        "identityagent",
        "identityfile",
        "include",
        "revokedhostkeys",
        "userknownhostsfile",
    )
)
"""Keywords whose value is a file: ~ and ${VARIABLE} have a meaning."""


def not_honoured(settings: Settings) -> tuple[str, ...]:
    """What the files ask for and vfio-kit does not do, with its place."""
    return tuple(
        f"{word} ({statement.place})"
        for word, statement in sorted(settings.first.items())
        if word not in _UNDERSTOOD
    )


def expand(statement: Statement, text: str, asked: Asked, settings: Settings) -> str:
    """Fills %h and the like in; ~ and ${…} where the value is a file."""
    first = settings.first

    def value(keyword: str, otherwise: str) -> str:
        return first[keyword].value if keyword in first else otherwise

    def token(found: re.Match[str]) -> str:
        letter = found[1]
        values: dict[str, Callable[[], str]] = {
            "%": lambda: "%",
            "d": lambda: str(Path.home()),
            "h": host,
            "i": lambda: str(os.getuid()),
            "j": lambda: value("proxyjump", ""),
            "k": lambda: value("hostkeyalias", host()),
            "L": lambda: socket.gethostname().split(".")[0],
            "l": socket.gethostname,
            "n": lambda: asked.original,
            "p": lambda: value("port", "22"),
            "r": lambda: value("user", local_user()),
            "u": local_user,
        }
        if letter == "C":
            joined = "".join(values[part]() for part in "lhprj")
            return hashlib.sha1(joined.encode(), usedforsecurity=False).hexdigest()
        if letter not in values:
            raise statement.malformed(f"%{letter} has no meaning")
        return values[letter]()

    def host() -> str:
        named = first.get("hostname")
        if named is None or statement.keyword == "hostname":
            return asked.host
        return expand(named, named.value, asked, settings)

    def variable(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise statement.malformed(f"the environment has no {found[1]}")
        return os.environ[found[1]]

    text = re.sub(r"%(.?)", token, text)
    if statement.keyword not in _FILES:
        return text
    text = re.sub(r"\$\{(\w+)\}", variable, text)
    try:
        return str(Path(text).expanduser()) if text.startswith("~") else text
    except RuntimeError:
        raise statement.malformed("there is no such user") from None
