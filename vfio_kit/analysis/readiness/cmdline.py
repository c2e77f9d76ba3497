"""Words of the kernel's command line."""


def values(cmdline: str, key: str) -> list[str]:
    """The comma-separated values of a parameter; where it is given twice, the last one counts."""
    given = [word.partition("=")[2] for word in cmdline.split() if word.partition("=")[0] == key]
    return given[-1].split(",") if given else []
