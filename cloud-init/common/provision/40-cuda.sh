
step_cuda() {
  add_repository
  install_packages g++ "${CUDA_PACKAGES[@]}"
  [ -z "$HOST_COMPILER" ] || install_packages "$HOST_COMPILER"
  [ -z "$RUNFILE" ] || run_runfile
  [ -e "$CUDA_INCLUDE/cuda_runtime.h" ] || die "CUDA was installed, and $CUDA_INCLUDE/cuda_runtime.h is missing"
  tell_shells
  # Another repository was there meanwhile.
  step_assert_driver
}

tell_shells() {
  {
    [ "$CUDA_HOME" = /usr ] || echo "export PATH=$CUDA_HOME/bin:\$PATH"
    # What the samples' makefiles build for, and the compiler that nvcc can take.
    [ "${#SMS[@]}" = 0 ] || echo "export SMS='${SMS[*]}'"
    [ -z "$HOST_COMPILER" ] || echo "export NVCC_PREPEND_FLAGS='-ccbin $HOST_COMPILER'"
  } > "$R/etc/profile.d/cuda.sh"
  echo "$CUDA_LIB" > "$R/etc/ld.so.conf.d/vfio-kit-cuda.conf"
  ldconfig
}

checksum_fits() { # FILE
  sha256sum --check --status <<< "$RUNFILE_SHA256  $1"
}

# NVIDIA's installer: its toolkit alone. It unpacks itself into TMPDIR, and /tmp may be small.
run_runfile() {
  local file=$R/var/cache/vfio-kit/$RUNFILE scratch=$R/var/tmp/vfio-kit-cuda
  [ ! -x "$CUDA_HOME/bin/nvcc" ] || [ ! -e "$STATE_DIR/$RUNFILE.installed" ] || return 0
  install_packages "${RUNFILE_PACKAGES[@]}"
  if [ -n "${BUNDLE-}" ]; then
    file=$BUNDLE/cuda/$RUNFILE
    [ -f "$file" ] || die "the bundle has no cuda/$RUNFILE"
  else
    download_runfile "$file"
  fi
  checksum_fits "$file" || die "$file is not NVIDIA's: its checksum is another one"
  require_room "$R/var/tmp" 9216 "CUDA's installer"
  mkdir -p "$scratch"
  TMPDIR=$scratch sh "$file" "${RUNFILE_ARGUMENTS[@]}" || die "CUDA's installer failed"
  rm -rf "$scratch"
  [ -n "${BUNDLE-}" ] || rm -f "$file"
  touch "$STATE_DIR/$RUNFILE.installed"
}

# A download that broke goes on where it was; one that is complete and wrong begins anew.
download_runfile() { # FILE
  install_packages ca-certificates curl
  [ -f "$1" ] && checksum_fits "$1" && return 0
  mkdir -p "${1%/*}"
  require_room "${1%/*}" 13312 "CUDA's installer, with its download,"
  curl -fL --no-progress-meter --retry 5 --continue-at - -o "$1.part" "$RUNFILE_URI" || die "$RUNFILE_URI cannot be had"
  checksum_fits "$1.part" || { rm -f "$1.part"; die "$RUNFILE_URI is not the file that is known: its checksum is another one"; }
  mv "$1.part" "$1"
}

step_packages() {
  install_packages "${PACKAGES[@]}"
  [ -z "$DRIVER" ] || step_assert_driver
}

# One that is there and starts is kept, be it of a baked image.
device_query_will_do() {
  local binary=$R/usr/local/bin/deviceQuery status=0
  [ -x "$binary" ] || return 1
  [ ! -e "$STATE_DIR/deviceQuery.version" ] || [ "$(cat "$STATE_DIR/deviceQuery.version")" = "$1" ] || return 1
  timeout 60 "$binary" > /dev/null 2>&1 || status=$?
  # 1: it found no device, as while baking. 126, 127: it does not start, or lacks a library.
  [ "$status" -lt 126 ]
}

# Where the samples are unpacked: from the bundle, or from GitHub.
fetch_samples() { # FOLDER
  local archive
  archive=$1/samples.tar.gz
  if [ -n "${BUNDLE-}" ]; then
    archive=$(compgen -G "$BUNDLE/cuda-samples/*.tar.gz" | head -n 1) || die "the bundle has no cuda-samples/*.tar.gz"
  else
    curl -fsSL --retry 5 -o "$archive" "$SAMPLES_URI" || die "$SAMPLES_URI cannot be had"
    [ -z "$SAMPLES_SHA256" ] || sha256sum --check --status <<< "$SAMPLES_SHA256  $archive" || die "$SAMPLES_URI is not the archive that is known"
  fi
  tar -xzf "$archive" -C "$1" || die "the samples cannot be unpacked"
}

step_device_query() {
  local version="cuda-samples $SAMPLES, CUDA $CUDA" folder source common
  if device_query_will_do "$version"; then
    say "deviceQuery is there already"
    return 0
  fi
  folder=$(mktemp -d)
  fetch_samples "$folder"
  source=$(find "$folder" -name deviceQuery.cpp -print -quit)
  common=$(find "$folder" -name helper_cuda.h -print -quit)
  [ -n "$source" ] || die "the samples have no deviceQuery.cpp"
  [ -n "$common" ] || die "the samples have no helper_cuda.h"
  # Host code alone: g++ and the runtime's headers build it, nvcc is not needed.
  g++ -O2 -I "${common%/*}" -I "$CUDA_INCLUDE" -o "$folder/deviceQuery" "$source" \
    -L "$CUDA_LIB" -lcudart_static -ldl -lrt -lpthread || die "deviceQuery of cuda-samples $SAMPLES does not compile"
  install -D -m 755 "$folder/deviceQuery" "$R/usr/local/bin/deviceQuery"
  echo "$version" > "$STATE_DIR/deviceQuery.version"
  rm -rf "$folder"
}
