#!/bin/sh
# Makes .venv with exactly the packages of requirements/lock.txt and heed itself, or says in one sentence what
# is missing. What was left half-made is made anew. Called by the Makefile, from the root of the checkout.
set -eu

say() { printf '%s\n' "$*" >&2; }
fail() { say "heed: $*"; exit 1; }

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

python=
for name in "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11; do
    if usable "$name"; then python=$name; break; fi
done
[ -n "$python" ] || fail "Python 3.11 or newer is needed and was not found: install it, or run make PYTHON=/path/to/it."

free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024) }')
[ "$free" -ge 2048 ] || fail "$free MB of disk are free here and 2048 are needed: free some and run make again."

if ! .venv/bin/python -m pip --version >/dev/null 2>&1 || ! usable .venv/bin/python; then
    rm -rf .venv
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        package=$("$python" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            say "Installing $package, which Python needs to make an environment."
            { apt-get update -qq && apt-get install -y -qq "$package"; } >&2 ||
                fail "$package could not be installed: install it and run make again."
        else
            fail "this Python cannot make an environment: install $package (apt-get install $package) and run make again."
        fi
    fi
    say "Making .venv with $("$python" --version)."
    "$python" -m venv .venv || { rm -rf .venv; fail "the environment could not be made: see above."; }
fi

say "Filling .venv from requirements/lock.txt; what has to be downloaded is named with its size."
PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
export PIP_DISABLE_PIP_VERSION_CHECK PIP_ROOT_USER_ACTION
{
    status=0
    .venv/bin/python -m pip install --require-hashes --no-deps --progress-bar off -r requirements/lock.txt 2>&1 ||
        status=$?
    echo "$status" >.venv/.pip-status
} | awk '/^(Requirement already|Ignoring|Collecting|Installing collected|Looking in|Using cached|Successfully)/ { next }
         /^ *Using cached/ || (/^  Downloading/ && /metadata/) { next }
         { print; fflush() }' >&2
[ "$(cat .venv/.pip-status)" = 0 ] ||
    fail "not every package could be fetched: connect to the network, or set a package index for pip, and run make again."

.venv/bin/python -m pip install --quiet --no-index --no-deps --no-build-isolation -e . >&2 ||
    fail "heed itself could not be installed into .venv: remove .venv and run make again."
