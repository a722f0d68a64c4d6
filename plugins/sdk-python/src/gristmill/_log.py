"""Lines in the host's log, under the transform's name. Without a host they are kept for tests to look at."""

lines: list[tuple[str, str]] = []
"""What was logged since the last `testing.run`, as (level, message); only without a host."""


class _Log:
    def debug(self, message: str) -> None:
        """For the author, while writing the transform."""
        _write("DEBUG", message)

    def info(self, message: str) -> None:
        """A normal event worth knowing."""
        _write("INFO", message)

    def warn(self, message: str) -> None:
        """Something that should be looked at."""
        _write("WARN", message)

    def error(self, message: str) -> None:
        """Something that went wrong."""
        _write("ERROR", message)


log = _Log()

try:
    from wit_world.imports import log as _host
except ImportError:

    def _write(level: str, message: str) -> None:
        lines.append((level.lower(), message))
else:

    def _write(level: str, message: str) -> None:
        _host.write(_host.Level[level], message)
