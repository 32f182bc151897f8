# SPDX-License-Identifier: GPL-2.0-only
import json
import subprocess
import sys

from tests.conftest import META, Run, Trace, window


def test_what_a_trace_is(run: Run, make_trace: Trace) -> None:
    code, out, err = run("info", make_trace([window(1)]))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "Recorded: 1970-01-01 00:00:00 UTC, for 10.000 s",
        "Whole: yes; ended by: duration",
        "Kernel: 6.1.0-test, x86_64, 2 CPUs",
        "Driver: virtio_net, stock, srcversion 0",
        "Regime: delayed work, NAPI off",
        "Device: eth1 (virtio_net), 2 queues",
        "Events: 1 (1 attempted, 1 delivered, 0 dropped), detail normal",
        "Format: 2, by toolkit 0.1.0",
    ]


def test_the_traced_machine_is_named(run: Run, make_trace: Trace) -> None:
    assert "Host: rx1" in run("info", make_trace(meta=META | {"host": "rx1"}))[1].splitlines()


def test_json_and_damage(run: Run, make_trace: Trace) -> None:
    path = make_trace([window(1)], [window(2)])
    path.write_bytes(path.read_bytes()[:-1500])
    code, out, err = run("info", path, "--json")
    assert code == 3
    assert json.loads(out)["damage"] in err
    assert "Whole: no" in run("info", path)[1]


def test_no_pandas_is_imported(make_trace: Trace) -> None:
    code = (
        "import sys, toolkit.cli as cli\n"
        "try: cli.main()\n"
        "finally: sys.exit(bool({'pandas', 'matplotlib', 'rich.console'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "info", str(make_trace([window(1)]))]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
