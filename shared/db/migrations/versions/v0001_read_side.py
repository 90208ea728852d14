"""The tables of the read side."""

from typing import Final

from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None

ASCII: Final = "CHARACTER SET ascii COLLATE ascii_bin"
UTF8: Final = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
TABLE: Final = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC"

REQUESTS: Final = f"""
CREATE TABLE IF NOT EXISTS requests (
    id CHAR(36) {ASCII} NOT NULL,
    mode VARCHAR(8) {ASCII} NOT NULL,
    source VARCHAR(128) {UTF8} NOT NULL,
    operation VARCHAR(128) {UTF8} NOT NULL,
    accepted_at_ms BIGINT NOT NULL,
    client_reference VARCHAR(255) {UTF8},
    callback_url VARCHAR(2048) {UTF8},
    digest VARCHAR(64) {ASCII},
    timeout_ms BIGINT,
    expires_at_ms BIGINT,
    facts_key VARCHAR(64) {ASCII} NOT NULL,
    started_at_ms BIGINT,
    started_attempt BIGINT,
    worker VARCHAR(128) {UTF8},
    started_key VARCHAR(64) {ASCII},
    outcome VARCHAR(16) {ASCII},
    attempts BIGINT,
    finished_at_ms BIGINT,
    queue_ms DOUBLE,
    compute_ms DOUBLE,
    error_code VARCHAR(32) {ASCII},
    error_message VARCHAR(1024) {UTF8},
    outcome_key VARCHAR(64) {ASCII},
    delivery VARCHAR(16) {ASCII},
    delivery_attempts BIGINT,
    replay_count BIGINT,
    delivery_at_ms BIGINT,
    retry_at_ms BIGINT,
    delivery_key VARCHAR(64) {ASCII},
    status VARCHAR(16) {ASCII}
        GENERATED ALWAYS AS (COALESCE(outcome, IF(started_key IS NULL, 'accepted', 'running'))) STORED,
    callback_status VARCHAR(16) {ASCII}
        GENERATED ALWAYS AS (COALESCE(delivery, IF(callback_url IS NULL, 'none', 'pending'))) STORED,
    PRIMARY KEY (id),
    INDEX ix_requests_accepted (accepted_at_ms, id, mode, status, callback_status),
    INDEX ix_requests_callback_status (callback_status, accepted_at_ms, id),
    INDEX ix_requests_client_reference (client_reference),
    INDEX ix_requests_mode (mode, accepted_at_ms, id),
    INDEX ix_requests_mode_status (mode, status, accepted_at_ms, id),
    INDEX ix_requests_operation (operation, accepted_at_ms, id),
    INDEX ix_requests_source (source, accepted_at_ms, id),
    INDEX ix_requests_status (status, accepted_at_ms, id)
) {TABLE}
"""

REQUEST_EVENTS: Final = f"""
CREATE TABLE IF NOT EXISTS request_events (
    topic VARCHAR(249) {ASCII} NOT NULL,
    partition_no INT NOT NULL,
    record_offset BIGINT NOT NULL,
    request_id CHAR(36) {ASCII},
    type VARCHAR(128) {UTF8} NOT NULL,
    event_id VARCHAR(128) {UTF8},
    time_ms BIGINT NOT NULL,
    data LONGTEXT {UTF8},
    note VARCHAR(1024) {UTF8},
    anomaly VARCHAR(1024) {UTF8},
    PRIMARY KEY (topic, partition_no, record_offset),
    INDEX ix_request_events_request (request_id, time_ms)
) {TABLE}
"""

CALLBACK_ATTEMPTS: Final = f"""
CREATE TABLE IF NOT EXISTS callback_attempts (
    topic VARCHAR(249) {ASCII} NOT NULL,
    partition_no INT NOT NULL,
    record_offset BIGINT NOT NULL,
    request_id CHAR(36) {ASCII} NOT NULL,
    attempt BIGINT NOT NULL,
    outcome VARCHAR(16) {ASCII} NOT NULL,
    url VARCHAR(2048) {UTF8} NOT NULL,
    at_ms BIGINT NOT NULL,
    duration_ms DOUBLE NOT NULL,
    http_status BIGINT,
    error_class VARCHAR(32) {ASCII},
    message VARCHAR(1024) {UTF8},
    response_excerpt VARCHAR(1024) {UTF8},
    retry_at_ms BIGINT,
    PRIMARY KEY (topic, partition_no, record_offset),
    INDEX ix_callback_attempts_request (request_id, at_ms)
) {TABLE}
"""

DEAD_LETTERS: Final = f"""
CREATE TABLE IF NOT EXISTS dead_letters (
    topic VARCHAR(249) {ASCII} NOT NULL,
    partition_no INT NOT NULL,
    record_offset BIGINT NOT NULL,
    request_id CHAR(36) {ASCII},
    mode VARCHAR(8) {ASCII},
    source VARCHAR(128) {UTF8},
    operation VARCHAR(128) {UTF8},
    reason VARCHAR(128) {UTF8},
    message VARCHAR(1024) {UTF8},
    origin VARCHAR(319) {UTF8},
    url VARCHAR(2048) {UTF8},
    attempts BIGINT,
    replay_count BIGINT,
    first_failed_at_ms BIGINT,
    dead_lettered_at_ms BIGINT,
    closed_as VARCHAR(16) {ASCII},
    closed_by VARCHAR(128) {UTF8},
    closed_reason VARCHAR(1024) {UTF8},
    closed_at_ms BIGINT,
    closed_key VARCHAR(64) {ASCII},
    state VARCHAR(16) {ASCII} GENERATED ALWAYS AS (COALESCE(closed_as, 'open')) STORED,
    PRIMARY KEY (topic, partition_no, record_offset),
    INDEX ix_dead_letters_request (request_id),
    INDEX ix_dead_letters_state (topic, state, dead_lettered_at_ms)
) {TABLE}
"""

PROJECTION_OFFSETS: Final = f"""
CREATE TABLE IF NOT EXISTS projection_offsets (
    projector VARCHAR(64) {ASCII} NOT NULL,
    topic VARCHAR(249) {ASCII} NOT NULL,
    partition_no INT NOT NULL,
    next_offset BIGINT NOT NULL,
    PRIMARY KEY (projector, topic, partition_no)
) {TABLE}
"""

REPLAY_JOBS: Final = f"""
CREATE TABLE IF NOT EXISTS replay_jobs (
    id CHAR(36) {ASCII} NOT NULL,
    dlq VARCHAR(249) {ASCII} NOT NULL,
    state VARCHAR(16) {ASCII} NOT NULL,
    requested_by VARCHAR(128) {UTF8} NOT NULL,
    reason VARCHAR(1024) {UTF8} NOT NULL,
    requested_at_ms BIGINT NOT NULL,
    finished_at_ms BIGINT,
    PRIMARY KEY (id)
) {TABLE}
"""


def upgrade() -> None:
    """Create what is missing: these databases commit every table by itself, and a run may be cut short."""
    for statement in (
        REQUESTS,
        REQUEST_EVENTS,
        CALLBACK_ATTEMPTS,
        DEAD_LETTERS,
        PROJECTION_OFFSETS,
        REPLAY_JOBS,
    ):
        op.execute(statement)


def downgrade() -> None:
    """Drop the read side; it can be rebuilt from the log."""
    for table in (
        "requests",
        "request_events",
        "callback_attempts",
        "dead_letters",
        "projection_offsets",
        "replay_jobs",
    ):
        op.execute(f"DROP TABLE IF EXISTS {table}")
