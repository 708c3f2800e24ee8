"""Local worker processes."""

from __future__ import annotations

import os
import socket
import warnings

from distributed import Client

from prep.cluster import open_cluster


def test_two_at_the_same_time_do_not_warn_of_ports_and_workers_wait_asleep() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("", 8787))
            taken.listen()
        except OSError:
            pass  # Another cluster on this machine has it: the same case.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with open_cluster(1, None) as cluster, Client(cluster) as client:
                assert client.submit(os.getenv, "OMP_WAIT_POLICY").result() == "PASSIVE"
