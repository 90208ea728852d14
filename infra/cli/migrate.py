"""`consuma migrate`: bring the read side's database to this release's schema."""

import sys

from sqlalchemy.exc import SQLAlchemyError

from shared.db.migrate import MigrationLockedError, current_revision, upgrade
from shared.settings import DatabaseSettings

__all__ = ["migrate"]


def migrate() -> None:
    """Create the database if it is absent, and apply every version of the schema that it lacks.

    Safe to repeat and to run from several places at once.
    """
    url = DatabaseSettings().mysql.get_secret_value()
    try:
        upgrade(url)
        print(f"the schema is at version {current_revision(url)}")
    except (MigrationLockedError, ValueError) as error:
        problem = str(error)
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        problem = f"the database refused or did not answer ({cause}): is it running? see CONSUMA_MYSQL"
    else:
        return
    print(f"consuma migrate: {problem}", file=sys.stderr)
    raise SystemExit(1)
