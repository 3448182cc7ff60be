"""Options that make a command speak TLS."""

import functools
from collections.abc import Callable

import click

from meshnode.certificates import load_tls
from meshnode.errors import OperatorError
from meshnode.links import Tls


def takes_tls(command: Callable[..., None]) -> Callable[..., None]:
    """Gives the command ``--tls-ca``, ``--tls-cert`` and ``--tls-key``, and hands it ``tls: Tls | None``."""

    @functools.wraps(command)
    def with_tls(
        *arguments: object, tls_ca: str | None, tls_cert: str | None, tls_key: str | None, **named: object
    ) -> None:
        command(*arguments, tls=_loaded(tls_ca, tls_cert, tls_key), **named)

    for name, what in (
        ("key", "The private key of --tls-cert."),
        ("cert", "A certificate that the CA signed, in PEM."),
        ("ca", "The CA of the mesh, in PEM: speak TLS."),
    ):
        option = click.option(
            f"--tls-{name}", envvar=f"MESHNODE_TLS_{name.upper()}", metavar="FILE", show_envvar=True, help=what
        )
        with_tls = option(with_tls)
    return with_tls


def _loaded(ca: str | None, certificate: str | None, key: str | None) -> Tls | None:
    given = (ca, certificate, key)
    if not any(given):
        return None
    if ca is None or certificate is None or key is None:
        raise click.UsageError("--tls-ca, --tls-cert and --tls-key belong together: give all three, or none")
    try:
        return load_tls(ca, certificate, key)
    except OperatorError as error:
        raise click.UsageError(str(error)) from error
