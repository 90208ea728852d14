"""What can go wrong with the read side, by what its user can do about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pymysql

from shared.kafka.records import Partition

__all__ = [
    "BatchRefusedError",
    "DatabaseAwayError",
    "FilterTooBroadError",
    "InvalidCursorError",
    "ProjectionFencedError",
    "QueryTimeoutError",
    "TransactionConflictError",
    "translated",
]

_CONFLICTS: Final = frozenset({1205, 1213})
"""Lock wait timeout and deadlock: the transaction is to be run again."""

_NOT_THERE: Final = frozenset({1044, 1045, 1049, 1142, 1146, 1193})
"""No right, no database, no table: somebody has yet to grant or migrate."""


class DatabaseAwayError(Exception):
    """The database does not answer, or not as it should; it heals or somebody mends it. Try again later."""


class QueryTimeoutError(DatabaseAwayError):
    """The database did not answer a query within its deadline."""


class FilterTooBroadError(Exception):
    """A query whose filters no index backs ran into its deadline: narrow it, by time for instance."""


class InvalidCursorError(ValueError):
    """A paging cursor that this release did not make, or made for other filters."""


class TransactionConflictError(Exception):
    """Another transaction was in the way; nothing was written. Run it again."""


class BatchRefusedError(Exception):
    """The database refuses a value of the batch; nothing was written, and trying again does not help."""


class ProjectionFencedError(Exception):
    """Another projector has moved the stored position; nothing was written."""

    def __init__(self, partition: Partition, expected: int, stored: int | None) -> None:
        super().__init__(f"{partition}: expected next offset {expected}, stored is {stored}")
        self.partition = partition
        self.expected = expected
        self.stored = stored


@contextmanager
def translated() -> Iterator[None]:
    """Raise this module's errors instead of the driver's and the network's.

    Statements that the server does not understand are bugs and come out as they are.
    """
    try:
        yield
    except pymysql.err.MySQLError as error:
        raise _translate(error) from error
    except UnicodeEncodeError as error:
        raise BatchRefusedError(f"text that is no Unicode: {error}") from error
    except (OSError, EOFError) as error:  # asyncio's timeout is an OSError too
        raise DatabaseAwayError(f"the database does not answer: {error!r}") from error


def _translate(error: pymysql.err.MySQLError) -> Exception:
    code = error.args[0] if error.args else None
    if code in _CONFLICTS:
        return TransactionConflictError(str(error))
    if isinstance(error, pymysql.err.DataError | pymysql.err.IntegrityError):
        return BatchRefusedError(str(error))
    if isinstance(error, pymysql.err.ProgrammingError) and code not in _NOT_THERE:
        return error
    return DatabaseAwayError(f"the database does not answer: {error}")
