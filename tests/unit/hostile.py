"""Values that mean harm: what breaks out of XML, YAML, a shell, QEMU's options, a path, a terminal.

`touch canary` is what a shell would run that takes a value for a command.
"""

from hypothesis import strategies as st

CANARY = "canary"

_SHELL = (
    "$(touch canary)",
    "`touch canary`",
    "; touch canary;",
    "| touch canary",
    "&& touch canary #",
    "' ; touch canary ; '",
    '" ; touch canary ; "',
    "\ntouch canary\n",
    "\r\ntouch canary",
    "'$(touch canary)'",
    "\\$(touch canary)",
    ">canary",
    "${SSH_PORT}",
    "${VARS}",
    "$@",
    "${IFS}",
    "$'\\x60'",
    "!!",
    "~root",
    "*",
    "\\",
    "\\n",
    "--help",
    "-rf",
)
_XML = (
    "<!--",
    "-->",
    "]]>",
    "<![CDATA[",
    "&lt;",
    "&amp;",
    "&#0;",
    "'/><x y='",
    "</source>",
    "<",
    "&",
)
_YAML = (
    ": ",
    " #",
    "- ",
    "*a",
    "&a",
    "!!python/object:x",
    "%YAML",
    "|",
    ">",
    "{",
    "}",
    "[",
    "~",
    "?",
)
_JINJA = ("{{ 7 * 7 }}", "{% raw %}", "{#", "#}", "{{ cycler }}")
_QEMU = (
    ",",
    ",,",
    ",readonly=off",
    "=",
    "id=x,",
    "file=/etc/shadow,",
    "json:{}",
    "fd:3",
    "nbd://x",
)
_PATH = ("..", "../../etc/passwd", "/", "//", "%s", "%n", "%2e%2e", " ", "a b")
_LETTERS = ("é", "e\u0301", "漢", "€", "😀", "ß", "'", '"', "`", "$", "%", "@", ":", ";")
_UNSEEN = (
    "\0",
    "\x07",
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x7f",
    "\x85",
    "\x9b31m",
    "\u00a0",
    "\u200b",
    "\u200f",
    "\u202e",
    "\u2028",
    "\u2066",
    "\ud800",
    "\udc80",
    "\ufeff",
    "\ufffe",
    "\U000e0041",
)
_SEEN = (*_SHELL, *_XML, *_YAML, *_JINJA, *_QEMU, *_PATH, *_LETTERS)

UNSEEN = "a".join(_UNSEEN)
"""All that moves a cursor, turns a line round, or is no character, with something between."""


def chunks(length: int) -> list[str]:
    """Every word that can be seen, in texts of at most so many characters."""
    found = [""]
    for word in _SEEN:
        word = "".join(filter(str.isprintable, word))
        if len(found[-1]) + len(word) >= length:
            found.append("")
        found[-1] += f"{word}a"
    return found


def _joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(parts, min_size=1, max_size=4).map("".join)


anything = _joined(st.sampled_from((*_SEEN, *_UNSEEN)) | st.text(max_size=6)) | st.sampled_from(
    ("", "x" * 5000, "../" * 2000, "$(touch canary)" * 300)
)
"""Whatever a file, an option, a device or a guest may say."""

printable = _joined(
    st.sampled_from(_SEEN) | st.text(st.characters(exclude_categories=("C", "Z")), max_size=6)
).map(lambda text: "".join(filter(str.isprintable, text)))
"""What a spec lets through where it takes any text: nothing that moves a cursor."""
