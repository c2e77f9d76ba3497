#!/bin/bash
# Written by vfio-kit for Debian 12.
# Without a FOLDER it says how it is used.
set -Eeuo pipefail

# The same as in the guest's /etc/vfio-kit/provision.conf.
# shellcheck disable=SC2034  # some of them the guest's script alone has use for
{
MODE=guest
GUEST=debian-12
COMPONENTS=(contrib non-free non-free-firmware)
KERNEL_SERIES=6.1.
KERNEL_UNFIT=()
KERNEL_PACKAGE=linux-image-cloud-amd64
COMPILERS=(gcc make)
DRIVER=470
DRIVER_VERSION=470.
DRIVER_PACKAGES=(nvidia-tesla-470-kernel-dkms nvidia-tesla-470-driver-bin nvidia-tesla-470-smi libnvidia-tesla-470-cuda1)
MODULE=nvidia-tesla-470
HOLD=(nvidia-tesla-470-kernel-dkms nvidia-tesla-470-driver-bin nvidia-tesla-470-smi libnvidia-tesla-470-cuda1 libnvidia-tesla-470-ml1)
CUDA=''
CUDA_PACKAGES=()
CUDA_HOME=''
CUDA_INCLUDE=''
CUDA_LIB=''
HOST_COMPILER=''
SMS=(52)
REPOSITORY=''
REPOSITORY_URI=''
REPOSITORY_KEY_URI=''
REPOSITORY_FINGERPRINT=''
RUNFILE=''
RUNFILE_URI=''
RUNFILE_SHA256=''
RUNFILE_ARGUMENTS=()
RUNFILE_PACKAGES=()
SAMPLES=''
SAMPLES_URI=''
SAMPLES_SHA256=''
PACKAGES=()
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
KEYRING_PACKAGE=debian-archive-keyring
SOURCES=('deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main contrib non-free non-free-firmware' 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-updates main contrib non-free non-free-firmware' 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian-security bookworm-security main contrib non-free non-free-firmware')
REPOSITORY_KEY=''
PREFERENCES='Explanation: these would replace the driver
Package: cuda cuda-1? cuda-1?-? cuda-runtime-* cuda-drivers* libcuda1 libnvidia-ml1 nvidia-alternative nvidia-driver nvidia-kernel-dkms nvidia-open-kernel-dkms
Pin: release *
Pin-Priority: -1
'
}

usage() {
  cat >&2 <<TEXT
usage: $0 [--status FILE] [--kernel RELEASE]... FOLDER
Fills FOLDER with all that vfio-kit installs in $GUEST, for vfio-kit up --bundle FOLDER.
It needs network, apt (any Debian or Ubuntu), and no root.
  --status FILE      /var/lib/dpkg/status of the guest's image: only what that lacks is fetched.
                     Without it all that the packages depend on is, down to libc6.
  --kernel RELEASE   a kernel (uname -r) that the guest runs: its headers are fetched.
                     Without it the newest of the guest system is, and the guest will boot that.
TEXT
  exit 2
}

die() { echo "FAILED: $*" >&2; exit 1; }
say() { echo "$*" >&2; }

KERNELS=()
STATUS=
while [ $# -gt 0 ]; do
  case $1 in
    --status) [ $# -gt 1 ] || usage; STATUS=$(realpath -e "$2"); shift 2 ;;
    --kernel) [ $# -gt 1 ] || usage; KERNELS+=("$2"); shift 2 ;;
    -*) usage ;;
    *) break ;;
  esac
done
[ $# = 1 ] || usage
command -v apt-get > /dev/null || die "there is no apt here: take a container of $GUEST"
[ -f "$KEYRING" ] || die "$KEYRING is missing: apt-get install $KEYRING_PACKAGE"
mkdir -p "$1"
FOLDER=$(realpath "$1")
[ -e "$FOLDER/SHA256SUMS" ] || [ -z "$(ls "$FOLDER")" ] || [ -e "$FOLDER/.vfio-kit-bundle" ] \
  || die "$FOLDER has something else in it"
touch "$FOLDER/.vfio-kit-bundle"
rm -f "$FOLDER/SHA256SUMS"

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# An apt of its own: nothing of this machine is read or changed, its packages are not the guest's.
set_up_apt() {
  mkdir -p "$WORK"/etc/apt/{apt.conf.d,preferences.d,sources.list.d,trusted.gpg.d} \
    "$WORK"/var/lib/apt/lists/partial "$WORK"/var/cache/apt/archives/partial "$WORK"/var/lib/dpkg
  cat > "$WORK/apt.conf" <<TEXT
Dir "$WORK/";
Dir::State::status "${STATUS:-$WORK/var/lib/dpkg/status}";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Retries "5";
Acquire::Languages "none";
TEXT
  touch "$WORK/var/lib/dpkg/status"
  export APT_CONFIG=$WORK/apt.conf LC_ALL=C.UTF-8
  printf '%s\n' "${SOURCES[@]}" > "$WORK/etc/apt/sources.list"
  if [ -n "$REPOSITORY" ]; then
    printf '%s\n' "$REPOSITORY_KEY" > "$WORK/etc/apt/trusted.gpg.d/$REPOSITORY.asc"
    echo "deb $REPOSITORY_URI /" >> "$WORK/etc/apt/sources.list"
  fi
  printf '%s\n' "$PREFERENCES" > "$WORK/etc/apt/preferences.d/90vfio-kit"
  say "reading the sources"
  apt-get -q update >&2 || die "apt cannot read its sources"
}

# What the script in the guest asks for, with the kernel that it would choose.
wanted_packages() {
  local kernel
  if [ -n "$DRIVER" ]; then
    if [ "${#KERNELS[@]}" = 0 ]; then
      kernel=$(apt-cache depends --no-recommends --no-suggests "$KERNEL_PACKAGE" \
        | sed -n 's/^ *|\?Depends: linux-image-\(unsigned-\)\?\([0-9].*\)/\2/p' | head -n 1)
      [ -n "$kernel" ] || die "$KERNEL_PACKAGE names no kernel"
      KERNELS=("$kernel")
      WANTED+=("$KERNEL_PACKAGE")
    fi
    WANTED+=("${KERNELS[@]/#/linux-headers-}" "${COMPILERS[@]}" "${DRIVER_PACKAGES[@]}")
  fi
  [ -z "$CUDA" ] || WANTED+=(g++ "${CUDA_PACKAGES[@]}" "${RUNFILE_PACKAGES[@]}")
  [ -z "$HOST_COMPILER" ] || WANTED+=("$HOST_COMPILER")
  WANTED+=("${PACKAGES[@]}")
}

fetch_packages() {
  local deb
  say "fetching ${WANTED[*]}"
  apt-get -q -y --no-install-recommends --download-only install "${WANTED[@]}" >&2 \
    || die "apt cannot resolve them; see above"
  rm -rf "$FOLDER/apt"
  mkdir -p "$FOLDER/apt"
  cd "$FOLDER/apt"
  for deb in "$WORK"/var/cache/apt/archives/*.deb; do
    [ ! -f "$deb" ] || mv "$deb" .
  done
  for deb in *.deb; do
    [ -f "$deb" ] || continue
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum < "$deb" | cut -d ' ' -f 1)"
  done > Packages
}

# URI FILE SHA256: one that is there and fits is kept, one that broke off goes on.
fetch_file() {
  mkdir -p "${2%/*}"
  if [ ! -f "$2" ]; then
    say "fetching $1"
    curl -fL --no-progress-meter --retry 5 --continue-at - -o "$2.part" "$1" || die "$1 cannot be had"
    mv "$2.part" "$2"
  fi
  [ -z "$3" ] || sha256sum --check --status <<< "$3  $2" || die "$2 is not what was published: remove it"
}

set_up_apt
WANTED=()
wanted_packages
fetch_packages
[ -z "$RUNFILE" ] || fetch_file "$RUNFILE_URI" "$FOLDER/cuda/$RUNFILE" "$RUNFILE_SHA256"
[ -z "$CUDA" ] || fetch_file "$SAMPLES_URI" "$FOLDER/cuda-samples/$SAMPLES.tar.gz" "$SAMPLES_SHA256"
cd "$FOLDER"
find . -type f ! -name .vfio-kit-bundle ! -name '*.part' -printf '%P\0' | sort -z \
  | xargs -0 sha256sum > "$WORK/SHA256SUMS"
mv "$WORK/SHA256SUMS" SHA256SUMS
say "$FOLDER: $(wc -l < SHA256SUMS) files, $(du -sm . | cut -f 1) MiB, for ${KERNELS[*]:-any kernel}"
