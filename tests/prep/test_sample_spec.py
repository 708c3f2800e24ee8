"""The contract between methods and prepared data stands on the standard library alone."""

import subprocess
import sys


def test_it_imports_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import prep.sample_spec; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(loaded.split()) - sys.stdlib_module_names == {"prep"}
