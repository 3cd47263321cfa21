#!/usr/bin/env bash
# Makes a small Python environment (PyYAML, uv) in the cache folder and prints its bin folder; later calls only print it.
# It needs Python 3.11 or later with venv; it installs Debian packages only with YES=1, or in CI, as root.
set -euo pipefail
cache=${DIFFUSION_CACHE:-$HOME/.cache/diffusion-operator}
environment=$cache/python
packages=(PyYAML==6.0.3 uv==0.13.9)
mark="$environment/.made-of-${packages[*]// /_}"

fail() { echo "error: $*" >&2; exit 1; }
usable() { python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

if [[ ! -e $mark ]]; then
  if ! usable; then
    if [[ $(id -u) == 0 && ( ${YES:-} == 1 || ${CI:-} == true ) ]]; then
      apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends python3 python3-venv ca-certificates >&2
    fi
    usable || fail "Python 3.11 or later with venv is needed; install it with" \
      "\`apt-get install python3 python3-venv ca-certificates\`, or run as root with YES=1"
  fi
  mkdir -p "$cache"
  echo "making a small Python environment in $environment" >&2
  rm -rf "$environment"
  python3 -m venv "$environment" >&2
  "$environment/bin/python" -m pip install --quiet "${packages[@]}" >&2
  touch "$mark"
fi
echo "$environment/bin"
