"""Runs the benchmark: ``python -m tests.benchmarks``, or with ``--quick`` a smoke run that writes nothing."""

import argparse
import os
import sys

from tests.benchmarks import end_to_end, environment, idle, in_process, report, served


def tell(what: str) -> None:
    """Show what is going on, where somebody is looking."""
    if sys.stderr.isatty():
        print('\r%-78s' % what, end='', file=sys.stderr, flush=True)


def measure(quick: bool) -> report.Run:
    """Take all measurements."""
    size = in_process.QUICK if quick else in_process.FULL
    idle_size = idle.QUICK if quick else idle.FULL
    length = end_to_end.QUICK if quick else end_to_end.FULL
    found = environment.look()
    rows = [*in_process.run(size, tell), *idle.run(idle_size, tell)]
    felt = end_to_end.run(length, tell)
    tell('')
    rounds = report.Rounds(size.rounds, idle_size.rounds, length.rounds, length.memory_rounds)
    return report.Run([*rows, *felt.rows], found, rounds, felt.busy, served.OPTIONS)


def main() -> None:
    """Measure, print the table, and write the page."""
    parser = argparse.ArgumentParser(prog='python -m tests.benchmarks', description=__doc__)
    parser.add_argument('--quick', action='store_true', help='a smoke run: its figures mean little')
    quick = parser.parse_args().quick
    run = measure(quick)
    print(report.text(run.rows))
    if not quick:
        print('\nWritten: %s' % ', '.join(os.path.relpath(path) for path in report.write(run)))


if __name__ == '__main__':
    main()
