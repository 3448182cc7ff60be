"""Flags of ``meshnode run`` that can't be meant: exit code 2 and a hint, before anything is started."""

from pathlib import Path

import pytest

from simulations.certificates import Authority
from tests.cli.command import meshnode


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (("--bind", "192.0.2.1:7946", "--found"), "192.0.2.1:7946 is not a loopback address"),
        (("--bind", "192.0.2.1:7946", "--found"), "Give --insecure if the network keeps strangers out"),
        (("--advertise", "192.0.2.1", "--found"), "192.0.2.1:7946 is not a loopback address"),
        (("--bind", "0.0.0.0:7946", "--insecure", "--found"), "nobody can dial: set advertise"),
        (("--bind", "localhost:7946", "--found"), "localhost:7946: give an IP address; names are not resolved"),
        (("--bind", "127.0.0.1:70000", "--found"), "is not HOST:PORT with a port from 1 to 65535"),
        (("--bind", "::1", "--found"), "write an IPv6 address in brackets"),
        (("--join", "127.0.0.1:"), "is not HOST:PORT with a port from 1 to 65535"),
        (("--weight", "0", "--found"), "weight is 0: choose 1 to 1000"),
        (("--weight", "heavy", "--found"), "'heavy' is not a valid integer"),
        (("--partitions", "63", "--found"), "63 partitions: the number must be a power of two"),
        (("--replication", "8", "--found"), "replication is 8: choose 1 to 7"),
        (("--app", "no_such_module", "--found"), "--app no_such_module: No module named 'no_such_module'"),
        (("--app", "json", "--found"), "--app json: the module has no class decorated with @agent"),
        (("--log-level", "loud", "--found"), "'loud' is not one of"),
        ((), "belongs to no mesh yet: give --found on the first node of a new mesh, --join HOST:PORT on the others"),
        (("--found", "--join", "127.0.0.1:7946"), "--found and --join exclude each other"),
        (("--voters", "3", "--join", "127.0.0.1:7946"), "--voters is for the node that founds the mesh: leave it out"),
        (("--partitions", "64", "--join", "127.0.0.1:7946"), "--partitions is for the node that founds the mesh"),
        (("--found", "--tls-ca", "ca.crt"), "--tls-ca, --tls-cert and --tls-key belong together: give all three"),
        (("--found", "--tls-cert", "a.crt", "--tls-key", "a.key"), "give all three, or none"),
        (
            ("--found", "--tls-ca", "no.crt", "--tls-cert", "a.crt", "--tls-key", "a.key"),
            "no.crt can't be read: No such file or directory. docs/security.md shows how to make one",
        ),
    ],
)
def test_flags_that_cannot_be_meant_are_explained(tmp_path: Path, flags: tuple[str, ...], hint: str) -> None:
    outcome = meshnode("run", "--name", "a", "--data", tmp_path / "a", *flags)
    assert hint in outcome.hint()
    assert not (tmp_path / "a" / "raft").exists()


def test_tls_for_links_is_no_leave_to_listen_beyond_loopback(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    certificate, key = ca.issue("a")
    flags = ("--bind", "192.0.2.1:7946", "--found", "--tls-ca", ca.ca, "--tls-cert", certificate, "--tls-key", key)
    outcome = meshnode("run", "--name", "a", "--data", tmp_path / "a", *flags)
    assert "192.0.2.1:7946 is not a loopback address, and datagrams are not sealed yet" in outcome.hint()


def test_an_asking_command_with_half_of_its_tls_options_is_explained() -> None:
    assert "give all three, or none" in meshnode("members", "--tls-key", "a.key").hint()


def test_the_name_and_the_data_directory_are_required(tmp_path: Path) -> None:
    assert "Missing option '--name'" in meshnode("run", "--data", tmp_path, "--found").hint()
    assert "Missing option '--data'" in meshnode("run", "--name", "a", "--found").hint()
    assert "name ''" in meshnode("run", "--name", "", "--data", tmp_path, "--found").hint()
