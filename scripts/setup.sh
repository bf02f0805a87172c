# Sourced by the other scripts: a virtual environment (the active one, or .venv) with this package.
# usage: source scripts/setup.sh PACKAGE        PACKAGE is "." or ".[dev]"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${VIRTUAL_ENV:-}" ]; then
    if [ ! -x .venv/bin/python ]; then
        python="${PYTHON:-$(command -v python3.11 || command -v python3 || true)}"
        [ -n "$python" ] || { echo "No python3 found; set PYTHON to its path." >&2; exit 2; }
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
            echo "Python 3.11 or newer is needed; set PYTHON to its path." >&2
            exit 2
        }
        "$python" -m venv .venv
    fi
    source .venv/bin/activate
fi

python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e "$1"

# laplace-torch declares torchvision but never imports it; transformers does import it where it
# finds it. A build that does not fit the installed torch would break transformers, so it goes.
if ! python -c 'import torchvision' 2>/dev/null && python -m pip show --quiet torchvision 2>/dev/null; then
    echo "torchvision does not fit this build of torch and nothing here needs it: removing it."
    python -m pip uninstall --quiet --yes torchvision
fi
