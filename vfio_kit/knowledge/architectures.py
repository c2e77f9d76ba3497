"""Names of architectures, as `uname -m` has them."""

X86 = ("x86_64", "i686", "i586", "i386")
POWER = ("ppc64", "ppc64le")
