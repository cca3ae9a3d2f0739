#!/usr/bin/env bash
# For a machine with a CUDA GPU: the tests that need one, then the figures, as Markdown in a file.
#
#   benchmarks/gpu.sh [FILE]     # gpu.md if none is given
set -euo pipefail
python=${PYTHON:-python3} file=${1:-gpu.md}
[[ $file == /* ]] || file=$PWD/$file
cd "$(dirname "$0")/.."

if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "Expected a CUDA GPU that torch can use, but there is none here: nothing was tested or measured" >&2
  exit 2
fi
status=0
"$python" -m pytest -m cuda -rs || status=$?
"$python" -m benchmarks.gpu --output "$file"
exit $status
