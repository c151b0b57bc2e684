"""Runs several commands of one pipeline in one process, one after the other.

Of a command that stops at a wrong word, importing TensorFlow is most of the time. Reads a JSON list
of lists of flags, and prints one of [exit code, standard output, standard error].
"""

import contextlib
import importlib
import io
import json
import sys
import traceback

from absl.testing import flagsaver


@flagsaver.flagsaver()
def run(module, words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.argv = [module.__name__, *words]
        try:
            module.main()
        except SystemExit as stop:
            code = stop.code
        except Exception:
            traceback.print_exc()
            code = 1
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    pipeline = importlib.import_module(f"pipelines.{sys.argv[1]}")
    print(json.dumps([run(pipeline, words) for words in json.load(sys.stdin)]))
