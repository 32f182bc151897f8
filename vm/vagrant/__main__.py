# SPDX-License-Identifier: GPL-2.0-only
"""``python -m vm.vagrant``, for the Vagrantfile: describes the machines, and prepares one."""

import argparse
import json
import sys
from pathlib import Path

from toolkit.errors import one_sentence
from vm import machines
from vm.vagrant import machine, processes


@one_sentence("vm.vagrant")
def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m vm.vagrant", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    describe = commands.add_parser("describe", help="print a JSON object of every machine, by its name")
    describe.add_argument("--home", type=Path, required=True, help="Vagrant's own directory")
    describe.add_argument("--key", required=True, help="the public key that Vagrant comes with")
    for name, about in (("up", "prepare what a machine needs beside it"), ("down", "end that, and clean up")):
        commands.add_parser(name, help=about).add_argument("machine")
    arguments = parser.parse_args()
    match arguments.command:
        case "describe":
            known = machines.load().values()
            print(json.dumps({m.name: machine.describe(m, arguments.home, arguments.key) for m in known}))
        case "up":
            found = machines.find(arguments.machine)
            files = processes.files(found.name)
            processes.prepare(files)
            if machine.needs_newer_qemu(found):
                processes.up(found, files)
        case "down":
            processes.down(processes.files(arguments.machine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
