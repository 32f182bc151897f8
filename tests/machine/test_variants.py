# SPDX-License-Identifier: GPL-2.0-only
"""Builds of virtio_net other than the distribution's: they load, are traced, and survive rough treatment."""

import re
import shlex
from pathlib import Path

import pytest

from tests.machine.harness.lab import Lab, assert_log_is_clean, recovered
from toolkit.runs import read_runs
from toolkit.stalls.analysis import analyze
from vm import drivers, guest, trial
from vm.drivers.build import BUILT
from vm.inside.testbed import MISSED

PATHS = [
    pytest.param("virtio-net", marks=pytest.mark.machine("virtio-net")),
    pytest.param("virtio-net-small", marks=[pytest.mark.machine("virtio-net-small"), pytest.mark.slow]),
    pytest.param("virtio-net-big", marks=[pytest.mark.machine("virtio-net-big"), pytest.mark.slow]),
]


# That of stock: test_virtio_net.py.
@pytest.mark.machine("virtio-net")
@pytest.mark.parametrize("variant", ["unfixed", "patched"])
def test_one_run_of_each(lab: Lab, machine: guest.Guest, variant: str, tmp_path: Path) -> None:
    lab.load(machine, variant)
    files = lab.trial(machine, tmp_path, "knob", traffic=trial.Traffic(), reached=recovered)
    run = read_runs(files.trace.parent).iloc[0]
    assert run["variant"] == variant
    assert run["stalls"] + run["brief"] >= 1, run.to_dict()
    assert run["dropped"] == 0
    assert run["witness_agrees"], run["witness"]
    assert run["open"] == 0
    if variant == "patched":
        analysis = analyze(files.trace)
        assert analysis.queues["workers"].sum() >= 1
        assert "napi-off" not in set(analysis.intervals["state"])


@pytest.mark.parametrize("kind", [PATHS[0], pytest.param("qlge", marks=pytest.mark.machine("qlge"))])
def test_rebuilt_is_the_same_code(lab: Lab, kind: str) -> None:
    machine = lab.boot(kind)
    driver = machine.machine.driver
    lab.load(machine, "rebuilt")
    own = shlex.quote(str(BUILT / drivers.file_name(driver, "rebuilt")))
    text = "objcopy -O binary --only-section=.text {} /dev/stdout | sha256sum"
    sums = {
        machine.ssh(text.format(module), check=True).stdout for module in (own, f'"$(modinfo -n {driver})"')
    }
    assert len(sums) == 1
    assert {"O", "E"} <= set(machine.ssh(f"cat /sys/module/{driver}/taint", check=True).stdout.strip())


@pytest.mark.machine("virtio-net")
def test_variant_is_built_in_the_machine_itself(machine: guest.Guest) -> None:
    """As `sudo variant` does it for Vagrant's users; elsewhere the host builds."""
    driver = machine.machine.driver
    file = BUILT / drivers.file_name(driver, "paced")
    machine.ssh(f"sudo rm -f {file} && sudo variant {driver} paced --build-only", check=True, timeout=600)
    assert "variant:paced" in machine.ssh(f"modinfo -F version {file}", check=True).stdout
    assert " .BTF " in machine.ssh(f"readelf --sections --wide {file}", check=True).stdout


@pytest.mark.parametrize("kind", PATHS)
def test_patched_survives_and_leaks_nothing(lab: Lab, kind: str, tmp_path: Path) -> None:
    machine = lab.boot(kind)
    lab.reload(machine, "patched")
    free, skbs = memory(machine)
    # XDP needs a whole packet in a page.
    steps = "down,ring" if kind == "virtio-net-big" else "down,xdp,ring"
    with (
        trial.wire(machine, trial.Traffic(rate=4000), tmp_path / "witness.json"),
        machine.popen(f"{guest.PYTHON} -m vm.scenarios.churn --times 60 --steps {steps}") as churn,
    ):
        starve = machine.ssh(f"{guest.PYTHON} -m vm.scenarios.knob --times 4 --settle 1", timeout=300)
        # Whether memory was short to the end of each time is not the question here.
        assert starve.returncode in (0, MISSED), starve.stderr
        _, said = churn.communicate(timeout=300)
        assert churn.returncode == 0, said
    assert re.search(r'"down": [1-9]', said), said
    for _ in range(3):
        lab.reload(machine, "patched")
    after, skbs_after = memory(machine)
    # A ring's worth of buffers in each of 60 steps would be some 25 MiB.
    assert free - after < 12 << 20
    assert skbs_after - skbs < 256
    assert_log_is_clean(machine)


def memory(machine: guest.Guest) -> tuple[int, int]:
    """Return the bytes that are free or would be at once, and the skbs in use; with nothing cached.

    After `knob`, which raises vm.min_free_kbytes, the CPUs keep up to 40 MiB of free pages to themselves.
    """
    machine.ssh("sudo swapoff -a; sudo swapon -a", timeout=300)
    machine.ssh("sync; echo 3 | sudo tee /proc/sys/vm/drop_caches", check=True, timeout=120)
    free = re.search(r"MemFree: +(\d+)", machine.ssh("cat /proc/meminfo", check=True).stdout)
    skbs = re.search(
        r"^skbuff_head_cache +(\d+)", machine.ssh("sudo cat /proc/slabinfo", check=True).stdout, re.MULTILINE
    )
    assert free and skbs
    kept = re.findall(r"^ +count: (\d+)", machine.ssh("cat /proc/zoneinfo", check=True).stdout, re.MULTILINE)
    return (int(free[1]) << 10) + 4096 * sum(map(int, kept)), int(skbs[1])
