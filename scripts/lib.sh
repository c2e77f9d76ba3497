# Set-up shared by scripts/test and scripts/demo; sourced, not run.
# Everything that is downloaded or built lies in $CACHE, outside the checkout.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/.."

export VFIO_KIT_CACHE="${VFIO_KIT_CACHE:-$HOME/.cache/vfio-kit}"
CACHE=$VFIO_KIT_CACHE
# shellcheck disable=SC2034  # used by those that source this
STARTED=$SECONDS

# Bytecode is kept, and outside of the checkout: without it every program that a test starts compiles
# vfio-kit anew, and pytest all tests.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX=$CACHE/bytecode

say() { printf '%s  %s\n' "$(date +%T)" "$*" >&2; }
die() { say "FAILED: $*"; exit 1; }

# Debian packages: for libvirt-python and the checks here; the virtual host names its own.
SYSTEM_PACKAGES=(python3 python3-venv python3-dev gcc pkg-config libvirt-dev libvirt-clients
  libxml2-utils qemu-utils xorriso shellcheck openssh-client gnupg gpgv git sudo cron systemd zsh fish
  man-db mandoc)

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

install_packages() {
  local missing begin=$SECONDS
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  say "apt-get install ${missing[*]}"
  # A foreign source that does not answer must not stop us: what counts is the install below.
  as_root apt-get -q update >/dev/null || say "apt-get update reported errors; going on"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    "${missing[@]}" >/dev/null
  say "Debian packages: $((SECONDS - begin)) s"
}

# The venv is keyed by what it is made from, so that another checkout gets its own.
setup_python() {
  local begin=$SECONDS stamp
  PYTHON=${PYTHON:-python3}
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || die "$("$PYTHON" --version) is too old: vfio-kit needs Python 3.11 or later"
  stamp=$({ cat pyproject.toml; pwd; "$PYTHON" --version; } | sha256sum | cut -c1-12)
  VENV=$CACHE/venv-$stamp
  if [ ! -f "$VENV/.complete" ]; then
    say "Python packages into $VENV"
    rm -rf "$VENV"
    mkdir -p "$CACHE"
    "$PYTHON" -m venv "$VENV"
    "$VENV/bin/python" -m pip -q --disable-pip-version-check install -U 'pip>=25.1'
    "$VENV/bin/python" -m pip -q install -e '.[libvirt]' --group dev
    touch "$VENV/.complete"
    say "Python packages: $((SECONDS - begin)) s"
  fi
  export PATH=$VENV/bin:$PATH
}

setup() {
  [ -r /etc/debian_version ] || die "the set-up speaks apt: run this on Debian or Ubuntu"
  install_packages "${SYSTEM_PACKAGES[@]}"
  setup_python
}

# Called first, before minutes are spent.
require_lab() {
  local free memory
  [ "$(id -u)" = 0 ] || die "the virtual host's images are built by root: sudo $0"
  [ "$(uname -m)" = x86_64 ] || die "the virtual host is an x86-64 machine; this one is $(uname -m)"
  mkdir -p "$CACHE"
  free=$(df --output=avail -BG "$CACHE" | tail -n 1 | tr -dc 0-9)
  memory=$(awk '/^MemTotal/ {print int($2 / 1048576)}' /proc/meminfo)
  [ "$free" -ge 8 ] || die "$free GiB are free in $CACHE; the virtual host wants 8"
  [ "$memory" -ge 11 ] || die "this machine has $memory GiB of memory; the virtual host wants 12"
}

setup_lab() {
  local names packages
  names=$(python -m tests.lab packages)
  mapfile -t packages <<< "$names"
  install_packages "${packages[@]}"
  say "images of the virtual host (the first time: 2 to 5 minutes, 2.5 GB in $CACHE)"
  python -m tests.lab build
}
