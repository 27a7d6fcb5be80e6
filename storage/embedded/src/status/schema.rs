//! The tables of `status.db`. Rows are those of `chat4all_storage::status::rows`, which says what each column means.

/// Marks the file as ours ("C4As").
pub(super) const APPLICATION_ID: i32 = 0x4334_4173;
/// Raised with every change that a former version would not understand.
pub(super) const VERSION: i32 = 3;

/// Messages and dead letters are long, so they lie in rowid tables; the others are short and lie in their keys' order, so
/// that what belongs to one message is one stretch of each. One index serves every filter: see `query`.
pub(super) const CREATE: &str = "
    CREATE TABLE messages (
        tenant          TEXT    NOT NULL,
        id              BLOB    NOT NULL,
        conversation    TEXT    NOT NULL,
        accepted_at_ms  INTEGER NOT NULL,
        body            TEXT    NOT NULL,
        UNIQUE (tenant, id)
    ) STRICT;
    CREATE INDEX messages_by_conversation ON messages (tenant, conversation, accepted_at_ms, id);
    CREATE INDEX messages_by_time ON messages (tenant, accepted_at_ms, id);

    CREATE TABLE deliveries (
        tenant          TEXT    NOT NULL,
        message_id      BLOB    NOT NULL,
        delivery_id     BLOB    NOT NULL,
        precedence      INTEGER NOT NULL,
        status          INTEGER NOT NULL, -- the rank within precedence
        updated_at_ms   INTEGER NOT NULL,
        accepted_at_ms  INTEGER NOT NULL,
        channel         TEXT    NOT NULL,
        target          TEXT    NOT NULL,
        body            TEXT    NOT NULL,
        provider_precedence INTEGER,      -- of the event that named the id
        provider_id     TEXT,
        PRIMARY KEY (tenant, message_id, delivery_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX deliveries_by_status ON deliveries (tenant, status, channel, accepted_at_ms, message_id);

    CREATE TABLE attempts (
        tenant          TEXT    NOT NULL,
        message_id      BLOB    NOT NULL,
        delivery_id     BLOB    NOT NULL,
        generation      INTEGER NOT NULL,
        started_at_ms   INTEGER NOT NULL,
        number          INTEGER NOT NULL,
        body            TEXT    NOT NULL,
        PRIMARY KEY (tenant, message_id, delivery_id, generation, started_at_ms, number)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE joins (
        channel         TEXT    NOT NULL,
        id              TEXT    NOT NULL,
        event_rank      INTEGER,          -- these three until the event came: NULL
        event_at_ms     INTEGER,
        event           TEXT,
        receipt_rank    INTEGER,          -- these three until a receipt came: NULL
        receipt_at_ms   INTEGER,
        receipt         TEXT,
        written_at_s    INTEGER NOT NULL DEFAULT (unixepoch()), -- first
        PRIMARY KEY (channel, id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX joins_by_time ON joins (event_at_ms) WHERE event_at_ms IS NOT NULL;
    CREATE INDEX joins_without_event ON joins (written_at_s) WHERE event_at_ms IS NULL;

    CREATE TABLE contacts (
        tenant          TEXT    NOT NULL,
        channel         TEXT    NOT NULL,
        target          TEXT    NOT NULL,
        accepted_at_ms  INTEGER NOT NULL,
        conversation    TEXT    NOT NULL,
        PRIMARY KEY (tenant, channel, target)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX contacts_by_time ON contacts (accepted_at_ms);

    CREATE TABLE claims (
        tenant          TEXT    NOT NULL,
        message_id      BLOB    NOT NULL,
        fingerprint     BLOB    NOT NULL,
        first_at_ms     INTEGER NOT NULL,
        last_at_ms      INTEGER NOT NULL, -- of the latest append that it allowed
        appended        INTEGER NOT NULL DEFAULT FALSE,
        PRIMARY KEY (tenant, message_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX claims_by_time ON claims (last_at_ms);

    CREATE TABLE dead_letters (
        tenant          TEXT    NOT NULL,
        delivery_id     BLOB    NOT NULL,
        generation      INTEGER,          -- these six until the letter came: NULL
        failed_at_ms    INTEGER,
        body            TEXT,
        accepted_at_ms  INTEGER,
        channel         TEXT,
        reason          TEXT,
        replayed_as     INTEGER NOT NULL DEFAULT 0,
        replay_accepted_at_ms INTEGER NOT NULL DEFAULT 0,
        UNIQUE (tenant, delivery_id)
    ) STRICT;
    CREATE INDEX dead_letters_by_reason ON dead_letters (tenant, reason, channel, failed_at_ms, delivery_id)
        WHERE replayed_as <= generation;
    CREATE INDEX dead_letters_by_time ON dead_letters (coalesce(accepted_at_ms, replay_accepted_at_ms));
";
