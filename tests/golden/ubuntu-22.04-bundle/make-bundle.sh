#!/bin/bash
# Written by vfio-kit for Ubuntu 22.04 LTS.
# Without a FOLDER it says how it is used.
set -Eeuo pipefail

# The same as in the guest's /etc/vfio-kit/provision.conf.
# shellcheck disable=SC2034  # some of them the guest's script alone has use for
{
MODE=guest
GUEST=ubuntu-22.04
COMPONENTS=()
KERNEL_SERIES=5.15.
KERNEL_UNFIT=(-kvm)
KERNEL_PACKAGE=linux-image-virtual
COMPILERS=(gcc make)
DRIVER=470
DRIVER_VERSION=470.
DRIVER_PACKAGES=(nvidia-headless-470-server nvidia-utils-470-server)
MODULE=nvidia
HOLD=(nvidia-headless-470-server nvidia-utils-470-server nvidia-dkms-470-server libnvidia-compute-470-server)
CUDA=11.4
CUDA_PACKAGES=(cuda-cudart-11-4 cuda-cudart-dev-11-4 cuda-nvcc-11-4)
CUDA_HOME=/usr/local/cuda-11.4
CUDA_INCLUDE=/usr/local/cuda-11.4/include
CUDA_LIB=/usr/local/cuda-11.4/lib64
HOST_COMPILER=g++-10
SMS=(52)
REPOSITORY=cuda-ubuntu2004
REPOSITORY_URI=https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2004/x86_64/
REPOSITORY_KEY_URI=https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2004/x86_64/3bf863cc.pub
REPOSITORY_FINGERPRINT=EB693B3035CD5710E231E123A4B469963BF863CC
RUNFILE=''
RUNFILE_URI=''
RUNFILE_SHA256=''
RUNFILE_ARGUMENTS=()
RUNFILE_PACKAGES=()
SAMPLES=v11.4.1
SAMPLES_URI=https://github.com/NVIDIA/cuda-samples/archive/refs/tags/v11.4.1.tar.gz
SAMPLES_SHA256=''
PACKAGES=(nvtop htop=3.0.5-7build2)
KEYRING=/usr/share/keyrings/ubuntu-archive-keyring.gpg
KEYRING_PACKAGE=ubuntu-keyring
SOURCES=('deb [signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg] http://archive.ubuntu.com/ubuntu jammy main restricted universe multiverse' 'deb [signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg] http://archive.ubuntu.com/ubuntu jammy-updates main restricted universe multiverse' 'deb [signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg] http://archive.ubuntu.com/ubuntu jammy-security main restricted universe multiverse')
REPOSITORY_KEY='-----BEGIN PGP PUBLIC KEY BLOCK-----

mQINBGJYmlEBEAC6nJmeqByeReM+MSy4palACCnfOg4pOxffrrkldxz4jrDOZNK4
q8KG+ZbXrkdP0e9qTFRvZzN+A6Jw3ySfoiKXRBw5l2Zp81AYkghV641OpWNjZOyL
syKEtST9LR1ttHv1ZI71pj8NVG/EnpimZPOblEJ1OpibJJCXLrbn+qcJ8JNuGTSK
6v2aLBmhR8VR/aSJpmkg7fFjcGklweTI8+Ibj72HuY9JRD/+dtUoSh7z037mWo56
ee02lPFRD0pHOEAlLSXxFO/SDqRVMhcgHk0a8roCF+9h5Ni7ZUyxlGK/uHkqN7ED
/U/ATpGKgvk4t23eTpdRC8FXAlBZQyf/xnhQXsyF/z7+RV5CL0o1zk1LKgo+5K32
5ka5uZb6JSIrEPUaCPEMXu6EEY8zSFnCrRS/Vjkfvc9ViYZWzJ387WTjAhMdS7wd
PmdDWw2ASGUP4FrfCireSZiFX+ZAOspKpZdh0P5iR5XSx14XDt3jNK2EQQboaJAD
uqksItatOEYNu4JsCbc24roJvJtGhpjTnq1/dyoy6K433afU0DS2ZPLthLpGqeyK
MKNY7a2WjxhRmCSu5Zok/fGKcO62XF8a3eSj4NzCRv8LM6mG1Oekz6Zz+tdxHg19
ufHO0et7AKE5q+5VjE438Xpl4UWbM/Voj6VPJ9uzywDcnZXpeOqeTQh2pQARAQAB
tCBjdWRhdG9vbHMgPGN1ZGF0b29sc0BudmlkaWEuY29tPokCOQQTAQIAIwUCYlia
UQIbAwcLCQgHAwIBBhUIAgkKCwQWAgMBAh4BAheAAAoJEKS0aZY7+GPM1y4QALKh
BqSozrYbe341Qu7SyxHQgjRCGi4YhI3bHCMj5F6vEOHnwiFH6YmFkxCYtqcGjca6
iw7cCYMow/hgKLAPwkwSJ84EYpGLWx62+20rMM4OuZwauSUcY/kE2WgnQ74zbh3+
MHs56zntJFfJ9G+NYidvwDWeZn5HIzR4CtxaxRgpiykg0s3ps6X0U+vuVcLnutBF
7r81astvlVQERFbce/6KqHK+yj843Qrhb3JEolUoOETK06nD25bVtnAxe0QEyA90
9MpRNLfR6BdjPpxqhphDcMOhJfyubAroQUxG/7S+Yw+mtEqHrL/dz9iEYqodYiSo
zfi0b+HFI59sRkTfOBDBwb3kcARExwnvLJmqijiVqWkoJ3H67oA0XJN2nelucw+A
Hb+Jt9BWjyzKWlLFDnVHdGicyRJ0I8yqi32w8hGeXmu3tU58VWJrkXEXadBftmci
pemb6oZ/r5SCkW6kxr2PsNWcJoebUdynyOQGbVwpMtJAnjOYp0ObKOANbcIg+tsi
kyCIO5TiY3ADbBDPCeZK8xdcugXoW5WFwACGC0z+Cn0mtw8z3VGIPAMSCYmLusgW
t2+EpikwrP2inNp5Pc+YdczRAsa4s30Jpyv/UHEG5P9GKnvofaxJgnU56lJIRPzF
iCUGy6cVI0Fq777X/ME1K6A/bzZ4vRYNx8rUmVE5
=DO7z
-----END PGP PUBLIC KEY BLOCK-----
'
PREFERENCES='Explanation: these would replace the driver
Package: cuda cuda-1? cuda-1?-? cuda-runtime-* cuda-drivers* nvidia-headless-470-server-open nvidia-dkms-470-server-open nvidia-driver-* nvidia-headless-470 nvidia-headless-470-open nvidia-utils-470 libnvidia-compute-470
Pin: release *
Pin-Priority: -1

Explanation: these would bring another kernel than the one that the module is built for
Package: linux-*-hwe-22.04*
Pin: release *
Pin-Priority: -1

Explanation: the driver comes from the distribution, never from the CUDA repository
Package: nvidia-* libnvidia-* cuda-drivers* libcuda1* firmware-nvidia-* lib*-nvidia* xserver-xorg-video-*
Pin: origin developer.download.nvidia.com
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
