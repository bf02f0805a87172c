#!/usr/bin/env bash
# From nothing to the table: installs the package and runs the pipeline on the generated corpus.
# Further arguments go to `dedier run`, e.g. bash scripts/quickstart.sh --set 'seeds=[0,1,2]'
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" "."
dedier run --config configs/quickstart.yaml "$@"
