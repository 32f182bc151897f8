# SPDX-License-Identifier: GPL-2.0-only
"""Events a second that the mapped drain takes from a BPF ring buffer, beside bcc's own callback.

    python -m bench.drain              in a machine that is started for it
    sudo python -m bench.drain --here  on this one

Both readers get the same records from the same kind of map in the same run: first a ring that was filled
before (how fast is it emptied), then a steady offer (how much is lost). The callback makes each record a
struct, as the examples of bcc do.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGES = 256  # 1 MiB: what the kernel holds while the reader is away
BURST = 32  # records a call of the generator
ROUNDS = 5

PROGRAM = """
#include <uapi/linux/ptrace.h>
#include "event.h"
BPF_RINGBUF_OUTPUT(events, PAGES);
BPF_ARRAY(counts, u64, 2);
int generate(struct pt_regs *ctx)
{
	struct rxt_event event = {};
	u32 attempted = 0, dropped = 1;
	u64 *count;

	event.kind = RXT_WINDOW;
	event.ts = bpf_ktime_get_ns();
	#pragma unroll
	for (int i = 0; i < BURST; i++) {
		u32 which = attempted;

		if ((count = counts.lookup(&which)))
			(*count)++;
		which = dropped;
		if (events.ringbuf_output(&event, sizeof(event), BPF_RB_NO_WAKEUP) && (count = counts.lookup(&which)))
			(*count)++;
	}
	return 0;
}
"""


class Generator:
    """A BPF program on getppid, which nothing else here calls: BURST records a call."""

    def __init__(self) -> None:
        from toolkit.capture import compiler
        from toolkit.paths import PROBES

        self.bpf = compiler.bcc().BPF(
            text=PROGRAM, cflags=[f"-I{PROBES}", f"-DPAGES={PAGES}", f"-DBURST={BURST}"]
        )
        self.bpf.attach_kprobe(event=self.bpf.get_syscall_fnname("getppid"), fn_name="generate")

    def fill(self) -> None:
        for _ in range(PAGES * 4096 // (72 * BURST)):
            os.getppid()

    def offer(self, rate: int, seconds: float) -> subprocess.Popen[bytes]:
        """Start a process that makes `rate` records a second."""
        return subprocess.Popen([sys.executable, __file__, "--generate", str(rate), str(seconds)])

    def counts(self) -> tuple[int, int]:
        """Return how many records were attempted and dropped so far."""
        table = self.bpf["counts"]
        return int(table[ctypes.c_int(0)].value), int(table[ctypes.c_int(1)].value)


def mapped(bpf: Any) -> Callable[[], int]:
    """Return a function that reads the whole ring and returns the number of records."""
    import numpy as np

    from toolkit.capture.ring import Ring
    from toolkit.trace.schema import EVENT

    ring = Ring(bpf["events"].map_fd, PAGES * 4096)
    room = np.zeros(1 << 16, EVENT)
    return lambda: ring.read_into(room)


def callback(bpf: Any) -> Callable[[], int]:
    """Return a function like `mapped`'s that uses bcc's ring_buffer_consume; its callback makes a struct of
    each record.
    """
    import numpy as np

    from toolkit.trace.schema import EVENT

    layout: Any = EVENT  # numpy's types know of scalars only
    record: Any = np.ctypeslib.as_ctypes_type(layout)
    seen = 0

    def each(_: object, data: int, __: int) -> None:
        nonlocal seen
        event = ctypes.cast(data, ctypes.POINTER(record)).contents
        seen += event.kind

    bpf["events"].open_ring_buffer(each)

    def read() -> int:
        before = seen
        bpf.ring_buffer_consume()
        return seen - before

    return read


def prefilled(generator: Generator, read: Callable[[], int]) -> float:
    """Return events a second, the best of some rounds."""
    best = 0.0
    for _ in range(ROUNDS):
        generator.fill()
        began = time.perf_counter()
        count = read()
        best = max(best, count / (time.perf_counter() - began))
    return best


def offered(generator: Generator, read: Callable[[], int], rate: int, seconds: float) -> dict[str, float]:
    """Return attempted events a second, the share that was lost, and CPU seconds a second."""
    before = generator.counts()
    process = generator.offer(rate, seconds)
    began, cpu, taken = time.perf_counter(), time.process_time(), 0
    while process.poll() is None:
        taken += read()
        time.sleep(0.02)
    taken += read()
    elapsed = time.perf_counter() - began
    attempted, dropped = (now - then for now, then in zip(generator.counts(), before, strict=True))
    assert taken == attempted - dropped, (taken, attempted, dropped)
    return {
        "events_per_s": round(attempted / elapsed),
        "lost": round(dropped / max(attempted, 1), 4),
        "cpu": round((time.process_time() - cpu) / elapsed, 3),
    }


def generate(rate: int, seconds: float) -> None:
    """Call getppid so often that it makes `rate` records a second."""
    began = time.perf_counter()
    calls = 0
    while (now := time.perf_counter() - began) < seconds:
        due = int(now * rate / BURST)
        while calls < due:
            os.getppid()
            calls += 1
        time.sleep(0.001)


def here(rate: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, reader in (("mapped", mapped), ("callback", callback)):
        generator = Generator()
        read = reader(generator.bpf)
        result[name] = {"prefilled_events_per_s": round(prefilled(generator, read))}
        result[name]["offered"] = offered(generator, read, rate, 5.0)
        generator.bpf.cleanup()
    result["ratio"] = round(
        result["mapped"]["prefilled_events_per_s"] / result["callback"]["prefilled_events_per_s"], 1
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--here", action="store_true", help="on this machine, as root")
    parser.add_argument("--rate", type=int, default=130_000, help="events a second to offer")
    parser.add_argument("--generate", nargs=2, metavar=("RATE", "SECONDS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.generate:
        generate(int(arguments.generate[0]), float(arguments.generate[1]))
    elif arguments.here:
        print(json.dumps(here(arguments.rate), indent=1))
    else:
        from vm import guest

        with guest.machine("virtio-net") as machine:
            machine.copy_to(Path(__file__).parent, "/tmp/")
            python = "sudo PYTHONPATH=/opt/toolkit/src /opt/toolkit/venv/bin/python"
            command = f"cd /tmp && {python} -m bench.drain --here --rate {arguments.rate}"
            print(machine.ssh(command, check=True).stdout, end="")


if __name__ == "__main__":
    main()
