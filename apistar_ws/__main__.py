"""The command line, ``python -m apistar_ws``: ``schema app:app`` writes the AsyncAPI document for other tools."""

import argparse
import json
import sys
from typing import Optional, Sequence

from uvicorn.importer import ImportFromStringError, import_from_string

from apistar_ws import ASyncApp


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run one command.

    :param arguments: by default those of the command line.
    """
    parser = argparse.ArgumentParser(prog='python -m apistar_ws')
    commands = parser.add_subparsers(dest='command', required=True)
    schema = commands.add_parser('schema', help='write the AsyncAPI document of an application to standard output')
    schema.add_argument('app', help='the application, as uvicorn has it: module:name')
    schema.add_argument('--app-dir', default='', help='where to look for the module; by default here')
    given = parser.parse_args(arguments)
    sys.path.insert(0, given.app_dir)
    try:
        app = import_from_string(given.app)
    except ImportFromStringError as exc:
        parser.error(str(exc))
    if not isinstance(app, ASyncApp):
        parser.error('%s is not an apistar_ws.ASyncApp, which has the document.' % given.app)
    json.dump(app.asyncapi, sys.stdout, indent=2)
    sys.stdout.write('\n')


if __name__ == '__main__':  # pragma: no cover
    main()
