# SPDX-License-Identifier: GPL-2.0-only
import os
import signal
import socket

import dask
import distributed
import pytest

from toolkit.errors import UserError
from toolkit.fleet import cluster


def test_a_scheduler_that_is_not_there_is_one_sentence() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "100ms"}),
            pytest.raises(UserError, match=f"cannot reach a Dask scheduler at {address}: "),
            cluster.connected(address, None),
        ):
            pass


def test_nonsense_for_an_address_is_one_sentence() -> None:
    with pytest.raises(UserError, match="nonsense://x"), cluster.connected("nonsense://x", None):
        pass


def test_a_scheduler_that_is_there_gets_the_work() -> None:
    with (
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as there,
        cluster.connected(there.scheduler_address, None) as client,
    ):
        assert client.submit(sum, [1, 2]).result() == 3


@pytest.mark.long
def test_workers_of_this_machine_are_this_user_s_alone_and_survive_ctrl_c() -> None:
    with cluster.connected(None, 2) as client:
        assert client.scheduler.address.startswith("tls://")
        workers = client.run(os.getpid)
        assert len(set(workers.values())) == 2 and os.getpid() not in workers.values()
        assert set(client.run(signal.getsignal, signal.SIGINT).values()) == {signal.SIG_IGN}
        assert set(client.nthreads().values()) == {1}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
