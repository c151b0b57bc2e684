"""One run, one directory: what was asked for, what came out, and how to go on after a stop."""

import datetime
import functools
import hashlib
import json
import logging as std_logging
import os
import pathlib
import shlex
import sys
from collections.abc import Callable

from absl import app, flags, logging

from tfprune.evaluation import records


class Run:
    """The directory of a run.

    `flags.txt` is written first and says whose directory it is; `record.json` last, and says that
    the run is finished. The same command goes on with what lies between.
    """

    def __init__(self, directory: str, module_flags: list[flags.Flag]) -> None:
        self.directory = pathlib.Path(directory)
        named = [f for f in module_flags if f.name not in ("output_dir", "resume")]
        chosen = [f for f in named if f.value is not None]
        self.settings = {f.name: f.value for f in chosen}
        # An empty list has no serialised form, and an empty string is its own.
        lines = [f.serialize() for f in sorted(chosen, key=lambda f: f.name)]
        text = "\n".join(line for line in lines if line) + "\n"
        self.id = hashlib.sha256(text.encode()).hexdigest()[:12]
        self._claim(text, next((f.value for f in module_flags if f.name == "resume"), None))

    def _claim(self, text: str, resume: bool | None) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            mine = self.path("flags.txt")
            known = mine.exists()
            mine_too = known and mine.read_text() == text
            if resume is not None and resume != mine_too:
                raise ValueError(
                    f"--resume: --output_dir={self.directory} holds no run with these flags; leave "
                    "it out to begin one"
                    if resume
                    else f"--noresume: --output_dir={self.directory} holds a run with these flags: "
                    "choose another directory, or delete it"
                )
            if mine_too:
                return
            # Flags alone are all that a run leaves which stopped at a wrong word.
            if any(path != mine for path in self.directory.iterdir()):
                what = "another run (see its flags.txt)" if known else "other files"
                raise ValueError(
                    f"--output_dir={self.directory} holds {what}: choose another directory"
                )
            self.write("flags.txt", lambda path: path.write_text(text))
        except OSError as error:
            raise OSError(
                error.errno, f"can't use --output_dir={self.directory}: {error.strerror}"
            ) from error

    def path(self, name: str) -> pathlib.Path:
        """Returns the path of one of the run's files."""
        return self.directory / name

    def write(self, name: str, writer: Callable[[pathlib.Path], object]) -> pathlib.Path:
        """Has `writer` write a file, which appears whole or not at all."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # The ending stays: Keras tells its formats by it.
        partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        try:
            writer(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    def finished(self) -> dict | None:
        """Returns the record of a run that is finished."""
        path = self.path("record.json")
        return json.loads(path.read_text()) if path.exists() else None

    def head(self) -> dict:
        """Returns the part of the record that says what was run, and on what."""
        return {
            "schema": records.SCHEMA,
            "run_id": self.id,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
            **{f"flag_{name}": value for name, value in self.settings.items()},
            **records.environment(),
        }

    def show(self, record: dict) -> None:
        """Writes the report of a record, and prints it."""
        from tfprune.report import html, table

        self.write("report.html", lambda path: html.write(record, path))
        print(table.text(record))
        print(f"\nreport: {self.path('report.html')}")

    def finish(self, record: dict) -> None:
        """Writes the record: the run is finished."""
        records.write(record, self.path("record.json"))


def main(body: Callable[[], None]) -> Callable[[], None]:
    """Returns a command for `body`: one clear line for what the user can mend, else a traceback."""

    @functools.wraps(body)
    def guarded(argv: list[str]) -> int:
        if len(argv) > 1:
            print(
                f"error: unexpected argument {argv[1]!r}: flags read --name=value", file=sys.stderr
            )
            return 2
        try:
            body()
        except (ValueError, TypeError, OSError) as error:
            if flags.FLAGS.pdb_post_mortem:
                raise
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\ninterrupted: the same command goes on where it stopped", file=sys.stderr)
            return 130
        return 0

    def command() -> None:
        # An installed command's main module is a stub, whose --help would be empty.
        module = sys.modules[body.__module__]
        sys.modules["__main__"].__doc__ = module.__doc__
        for flag in flags.FLAGS.get_key_flags_for_module(module):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
        # TensorFlow's notes would bury what the run has to say; what is wrong it raises as well.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        std_logging.getLogger("tensorflow").setLevel(std_logging.ERROR)
        logging.get_absl_handler().setFormatter(std_logging.Formatter("%(message)s"))
        app.run(guarded)

    return command
