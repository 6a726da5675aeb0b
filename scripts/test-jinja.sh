#!/usr/bin/env bash
# Compares shared/jinja with Python's own Jinja2 and PyYAML: the corpus of
# testdata, templates that chance makes, and YAML.
#
#   scripts/test-jinja.sh [COUNT [SEED]]    COUNT templates (default 5000) of SEED (default 1)
#
# Needs python3 with venv. About a minute.
set -euo pipefail
cd "$(dirname "$0")/.."

jinja=3.1.6 markupsafe=3.0.4 pyyaml=6.0.4
venv=data/venv-jinja-$jinja-$markupsafe-$pyyaml

if [ ! -e "$venv/installed" ]; then
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" --quiet --disable-pip-version-check install "jinja2==$jinja" "markupsafe==$markupsafe" "pyyaml==$pyyaml"
	touch "$venv/installed"
fi
"$venv/bin/python" -c 'import sys, jinja2, yaml; print("Python", sys.version.split()[0], "Jinja2", jinja2.__version__, "PyYAML", yaml.__version__)'

KERNELFLOW_JINJA_PYTHON=$PWD/$venv/bin/python KERNELFLOW_JINJA_COUNT=${1:-5000} KERNELFLOW_JINJA_SEED=${2:-1} \
	go test -count=1 -v -run 'InPython|AsPython' ./shared/jinja ./shared/jobdef | grep -v '^ *--- PASS\|^=== '
