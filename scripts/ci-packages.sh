#!/usr/bin/env bash
# The Debian packages that CI's parts need, installed where they are missing: as root, on Debian or
# Ubuntu.
set -euo pipefail

declare -A package=(
  [aarch64-linux-gnu-g++]=g++-aarch64-linux-gnu # the linux-arm64 binary
  [qemu-aarch64-static]=qemu-user-static        # runs it
  [clang-format-19]=clang-format-19             # npm run check
  [ccache]=ccache                               # the binaries of CI share most objects
  [mpicxx.openmpi]=libopenmpi-dev # npm run test:distributed
  [mpirun.openmpi]=openmpi-bin
  [mpicxx.mpich]=libmpich-dev
  [mpirun.mpich]=mpich
  [ip]=iproute2 # two hosts in network namespaces
  [cmake]=cmake
  [ninja]=ninja-build
)

missing=()
for command in "${!package[@]}"; do
  command -v "$command" > /dev/null || missing+=("${package[$command]}")
done
# The browser that the documentation site is opened in.
command -v chromium > /dev/null || command -v google-chrome > /dev/null || missing+=(chromium)
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get > /dev/null || [ "$(id -u)" -ne 0 ]; then
  echo "Missing, and not root on Debian: ${missing[*]}" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
