#!/bin/sh
# Makes a virtual environment with everything that running and developing consuma needs.
#   setup.sh DIRECTORY        PYTHON=… names the interpreter to use
set -eu
venv=$1
oldest="3.11"

fail() { echo "setup: $*" >&2; exit 1; }
is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
can_make_venv() { "$1" -c 'import venv, ensurepip' 2>/dev/null; }

find_python() {
  seen=""
  without_venv=""
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    if ! is_new_enough "$candidate"; then
      seen="$seen $candidate is $("$candidate" --version 2>&1 || echo no Python);"
    elif ! can_make_venv "$candidate"; then
      without_venv="$candidate"
    else
      python=$candidate
      return
    fi
  done
  if [ -n "$without_venv" ]; then
    package=$("$without_venv" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    fail "$without_venv cannot make virtual environments: install its venv and ensurepip modules" \
      "(Debian and Ubuntu: apt-get install $package), then try again"
  fi
  fail "Python $oldest or newer is needed;${seen:- no python3 was found;} install one," \
    "or name it: make setup PYTHON=/path/to/python3"
}

find_python
if [ -d "$venv" ] && ! { [ -x "$venv/bin/python" ] && is_new_enough "$venv/bin/python"; }; then
  echo "setup: $venv does not work and is made anew"
  rm -rf "$venv"
fi
if [ ! -d "$venv" ]; then
  echo "setup: making $venv with $("$python" --version)"
  "$python" -m venv "$venv" || { rm -rf "$venv"; fail "$python could not make $venv; see above"; }
fi
echo "setup: installing (a minute the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' \
  || fail "pip could not install everything; see above. Without a network, or behind a mirror, set pip's own" \
    "settings (PIP_INDEX_URL, HTTPS_PROXY) and try again"
echo "setup: done; the commands are in $venv/bin"
