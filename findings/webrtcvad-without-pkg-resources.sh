#!/bin/bash
# webrtcvad, and with it Resemblyzer, cannot be imported after a plain installation.
#
# Software: webrtcvad 2.0.10 with setuptools 84.2.1, which pip installs beside Resemblyzer 0.1.4 (torch needs it).
# Input: import webrtcvad.
# Expected: it can be imported: the package declares no dependency that is missing.
# Seen: ModuleNotFoundError: No module named 'pkg_resources'. The module only wants its own version from there; setuptools
#   82 and later have no pkg_resources, and the package does not declare that it needs an older one. With setuptools
#   80.9.0 it works, with a warning.
# Why it matters: MakeItTalk's speaker embedding comes from Resemblyzer, which imports webrtcvad first of all.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet webrtcvad==2.0.10
for version in 84.2.1 80.9.0; do
    "$folder/venv/bin/pip" install --quiet "setuptools==$version"
    seen=$("$folder/venv/bin/python" -W ignore -c "import webrtcvad; print('imported', webrtcvad.__version__)" 2>&1 | tail -n 1)
    echo "setuptools $version: $seen"
    case $version in
        84.2.1) test "$seen" = "ModuleNotFoundError: No module named 'pkg_resources'" ;;
        80.9.0) test "$seen" = "imported 2.0.10" ;;
    esac
done
