"""Runs the benchmark: ``python -m tests.benchmarks``, or with ``--quick`` a smoke run that writes nothing.

``python -m tests.benchmarks groups`` measures the section of the groups alone, and prints it as the page has it;
``--part`` takes a part of it. ``python -m tests.benchmarks in-process`` measures connections and messages in process.
"""

import argparse
import os
import sys
from typing import List, Optional

from tests.benchmarks import end_to_end, environment, groups, idle, in_process, profiled, report, served
from tests.benchmarks.results import missed


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
    together = groups.run(quick, tell)
    tell('Where the time goes')
    wheres = profiled.profiles(row.key for row in missed(rows))
    tell('')
    rounds = report.Rounds(size.rounds, idle_size.rounds, length.rounds, length.memory_rounds)
    return report.Run([*rows, *felt.rows], found, rounds, felt.busy, served.OPTIONS, together, wheres)


def measure_groups(quick: bool, parts: Optional[List[str]]) -> None:
    """Measure the groups alone; the tables for the terminal go where they are not in the way."""
    found = environment.look()
    outcome = groups.run(quick, tell, parts)
    tell('')
    print(report.groups_text(outcome), file=sys.stderr)
    print(report.rst_environment(found) + '\n' + report.rst_groups(outcome))


def measure_in_process(quick: bool) -> None:
    """Measure what is measured in process alone, idle connections apart."""
    rows = in_process.run(in_process.QUICK if quick else in_process.FULL, tell)
    tell('')
    print(report.text(rows))


def parse() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog='python -m tests.benchmarks', description=__doc__)
    parser.add_argument('--quick', action='store_true', help='a smoke run: its figures mean little')
    parser.add_argument('section', nargs='?', choices=['groups', 'in-process'], help='measure that section alone')
    parser.add_argument('--part', action='append', choices=groups.PARTS, help='measure that part of the groups alone')
    return parser.parse_args()


def main() -> None:
    """Measure, print the table, and write the page."""
    args = parse()
    if args.section == 'in-process':
        return measure_in_process(args.quick)
    if args.section or args.part:
        return measure_groups(args.quick, args.part)
    run = measure(args.quick)
    print(report.text(run.rows))
    print('\n' + report.groups_text(run.groups))
    if not args.quick:
        print('\nWritten: %s' % ', '.join(os.path.relpath(path) for path in report.write(run)))


if __name__ == '__main__':
    main()
