
step_driver() {
  install_packages "${DRIVER_PACKAGES[@]}"
}

# DKMS's own name of it differs from one package to the next: nvidia-srv, nvidia-tesla-470.
module_is_built() {
  dkms status -k "$TARGET" | grep -E "^nvidia[^,/]*[,/] ?${DRIVER_VERSION//./\\.}.*: installed" > /dev/null
}

# From the sources that the package brought, also where DKMS has forgotten them.
build_module() {
  local source
  for source in "$R"/usr/src/nvidia*-"$DRIVER_VERSION"*; do
    [ -f "$source/dkms.conf" ] || continue
    source=${source##*/}
    dkms install "${source%-*}/${source##*-}" -k "$TARGET" || say "DKMS failed; its make.log tells why"
  done
}

step_dkms() {
  if ! module_is_built; then
    build_module
    module_is_built || die "DKMS has no module of driver $DRIVER_VERSION for kernel $TARGET"
  fi
  depmod "$TARGET"
  without_nouveau
}

# The initrd would load nouveau before anybody could forbid it.
without_nouveau() {
  local image=$R/boot/initrd.img-$TARGET files
  [ -f "$image" ] && command -v lsinitramfs > /dev/null || return 0
  files=$(lsinitramfs "$image")
  if grep -q '/nouveau\.ko' <<< "$files" && ! grep -q 'modprobe\.d/90vfio-kit' <<< "$files"; then
    update-initramfs -u -k "$TARGET"
  fi
}

# The file behind a library's name, without links.
library() { # NAME
  local path
  path=$(ldconfig -p | awk -v name="$1" '$1 == name && /x86-64/ && !found {print $NF; found = 1}')
  [ -z "$path" ] || readlink -f "$path"
}

# VERSION: of the module, and of all that talks to it. nvidia-smi says its own without a driver.
step_assert_driver() {
  local name found
  VERSION=$(modinfo -k "$TARGET" -F version "$MODULE") || die "kernel $TARGET has no module $MODULE"
  case $VERSION in
    "$DRIVER_VERSION"*) ;;
    *) die "driver $VERSION was installed, ${DRIVER_VERSION}x was asked for" ;;
  esac
  for name in libcuda.so.1 libnvidia-ml.so.1; do
    found=$(library "$name")
    case $found in
      *.so."$VERSION") ;;
      *) die "the module is of driver $VERSION, and $name is ${found:-missing}" ;;
    esac
  done
  found=$(nvidia-smi -h | sed -n '1s/.*-- v\([0-9.]*\).*/\1/p') || found=
  [ "$found" = "$VERSION" ] || die "the module is of driver $VERSION, and nvidia-smi is ${found:-missing}"
}

# What was proven to fit stays. The metapackages as well: they would bring a kernel without a module.
step_hold() {
  local held
  step_assert_driver
  mapfile -t held < <(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' 'linux-image-*' 'linux-headers-*' \
    'linux-modules-*' 'linux-generic*' 'linux-virtual*' 'linux-kvm*' '*nvidia*' "${HOLD[@]}" 2> /dev/null \
    | sed -n 's/^.i *//p' | sort -u)
  [ "${#held[@]}" -gt 0 ] || die "no package of driver $DRIVER is installed"
  apt-mark hold "${held[@]}"
}
