//! The tables of `status.db`. Rows are those of `chat4all_storage::status::rows`, which says what each column means.

/// Marks the file as ours ("C4As").
pub(super) const APPLICATION_ID: i32 = 0x4334_4173;
/// Raised with every change that a former version would not understand.
pub(super) const VERSION: i32 = 1;

/// Messages are long, so they lie in a rowid table; the others are short and lie in their keys' order, so that what
/// belongs to one message is one stretch of each. One index serves every filter: see `query`.
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

    CREATE TABLE provider_ids (
        tenant          TEXT    NOT NULL,
        message_id      BLOB    NOT NULL,
        delivery_id     BLOB    NOT NULL,
        channel         TEXT    NOT NULL,
        provider_id     TEXT    NOT NULL,
        precedence      INTEGER NOT NULL,
        accepted_at_ms  INTEGER NOT NULL,
        PRIMARY KEY (tenant, message_id, delivery_id, channel, provider_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX provider_ids_by_id ON provider_ids (channel, provider_id);
";
