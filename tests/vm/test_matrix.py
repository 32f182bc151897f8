# SPDX-License-Identifier: GPL-2.0-only
import re

from toolkit import drivers
from toolkit.capture.checkup import Finding
from vm import machines, matrix
from vm.machines import Kernel
from vm.matrix import Column
from vm.paths import CHECKOUT

GOOD = Finding("ok", "types", "a module, with BTF")
LACKS = Finding("warn", "hook irq", "not here, so a trace lacks receive interrupts", "", ("irqs",))
BAD = Finding("fail", "struct members", "this kernel's BTF lacks a.b", "it cannot be traced.")
NAMES = ("aoe", "qlge", "virtio_net", "xen_netback")


def _column(kernel: Kernel, architecture: str, version: str, *findings: list[Finding]) -> Column:
    return Column(
        kernel, architecture, version, f"{version}.1-{architecture}", dict(zip(NAMES, findings, strict=True))
    )


def test_page_has_a_cell_for_each_driver_and_kernel_and_says_what_is_missing() -> None:
    bookworm = Kernel("bookworm", ("amd64", "arm64"))
    page = matrix.render(
        [
            _column(bookworm, "amd64", "6.1", [GOOD], [GOOD], [LACKS, GOOD], []),
            _column(bookworm, "arm64", "6.1", [GOOD], [], [LACKS], [GOOD, BAD]),
        ]
    )
    lines = page.splitlines()
    assert "| driver | 6.1 amd64 | 6.1 arm64 |" in lines
    assert "| --- | --- | --- |" in lines
    assert "| aoe | full, run | full |" in lines
    assert "| virtio_net | partly, run | partly |" in lines
    assert "| xen_netback | –, run | **no** |" in lines  # noqa: RUF001
    assert "| 6.1 arm64 | bookworm | 6.1.1-arm64 |" in lines
    assert max(map(len, lines)) <= 110
    text = " ".join(page.split())
    assert "- 6.1 amd64: `virtio-net`, " in text and "- 6.1 arm64: " not in text.partition("## Drivers")[0]
    irqs = "hook irq: not here, so a trace lacks receive interrupts. Not known then: `irqs`."
    assert f"- 6.1 amd64, 6.1 arm64: {irqs}" in text
    assert "- 6.1 arm64: struct members: this kernel's BTF lacks a.b." in text


def test_page_of_the_project_is_of_the_kernels_that_are_promised() -> None:
    page = (CHECKOUT / "docs/kernels.md").read_text()
    heads = re.findall(r"^\| \S+ (\S+) \| (\S+) \| \S+ \|$", page, re.MULTILINE)
    assert heads == [(name, kernel.suite) for kernel in machines.kernels() for name in kernel.architectures]
    assert set(re.findall(r"^\| (\w+) \| (?:full|partly|\*\*no|–)", page, re.MULTILINE)) == {*drivers.names()}  # noqa: RUF001


def test_machine_runs_the_drivers_of_its_nics_on_its_own_architecture() -> None:
    trixie = Kernel("trixie", ("amd64", "arm64"))
    findings = {name: [GOOD] for name in ("e1000e", "igb", "mlx5", "virtio_net")}
    amd64, arm64 = (Column(trixie, name, "6.12", name, findings) for name in trixie.architectures)
    lines = matrix.render([amd64, arm64]).splitlines()
    assert "| e1000e | full, run | full |" in lines and "| igb | full, run | full |" in lines
    assert "| mlx5 | full | full |" in lines
    assert "| virtio_net | full, run | full, run |" in lines
