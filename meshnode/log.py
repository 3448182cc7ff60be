"""Log lines: one event each, with the node's name and what applies of term and epoch.

A program that embeds nodes sees them through the standard library's logger "meshnode". The command line renders them
for people in a terminal, and as JSON otherwise.
"""

import logging
from typing import TextIO, cast

import structlog
from structlog.typing import Processor

NAME = "meshnode"

_ADD: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
]


def get_logger() -> structlog.stdlib.BoundLogger:
    """The logger of all rooms."""
    return cast(
        structlog.stdlib.BoundLogger,
        structlog.wrap_logger(
            logging.getLogger(NAME),
            processors=[
                structlog.stdlib.filter_by_level,
                *_ADD,
                structlog.processors.format_exc_info,
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
        ),
    )


def write_logs_to(stream: TextIO, *, level: str, as_json: bool) -> None:
    """Render log lines to a stream, in place of whatever was set up before."""
    renderer: Processor
    if as_json:
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=0)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_ADD,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.TimeStamper(fmt="iso", utc=as_json),
                renderer,
            ],
        )
    )
    logger = logging.getLogger(NAME)
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
