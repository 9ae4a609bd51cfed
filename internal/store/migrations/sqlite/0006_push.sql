-- Messages, and what became of them. The tables with a time keep the
-- record; push_queue has the deliveries that live, and nothing else, so
-- that work is found at the same speed however much has been delivered.

-- +goose Up
CREATE TABLE push_messages (
    at          INTEGER NOT NULL,
    id          INTEGER NOT NULL, -- random
    environment TEXT NOT NULL,
    topic       TEXT NOT NULL,
    user_id     TEXT,
    order_key   TEXT,
    time        INTEGER,
    data        BLOB NOT NULL,
    idempotency TEXT,
    PRIMARY KEY (at, id)
) STRICT;
CREATE INDEX push_messages_topic ON push_messages (topic, at);
CREATE INDEX push_messages_user ON push_messages (user_id, at) WHERE user_id IS NOT NULL;

-- What publishers call their messages, for a day.
CREATE TABLE push_idempotency (
    environment TEXT NOT NULL,
    key         TEXT NOT NULL,
    digest      BLOB NOT NULL,
    message_at  INTEGER NOT NULL,
    message_id  INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (environment, key)
) STRICT;
CREATE INDEX push_idempotency_at ON push_idempotency (at);

-- The last number of each kind that was given.
CREATE TABLE push_numbers (
    name TEXT NOT NULL PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT;
INSERT INTO push_numbers (name, last) VALUES ('push_deliveries', 0);

-- The record of a delivery. Only columns without an index change; while it is in
-- the queue its state is pending.
CREATE TABLE push_deliveries (
    at           INTEGER NOT NULL,
    id           INTEGER NOT NULL,
    message_at   INTEGER NOT NULL,
    message_id   INTEGER NOT NULL,
    subscription INTEGER NOT NULL,
    app          INTEGER NOT NULL,
    environment  TEXT NOT NULL,
    topic        TEXT NOT NULL,
    user_id      TEXT,
    grant_id     TEXT,
    order_key    TEXT, -- NULL where the subscription is not ordered
    state        INTEGER NOT NULL,
    cause        INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    delivered_at INTEGER,
    origin_at    INTEGER, -- the delivery that a reset repeats
    origin_id    INTEGER,
    payload_at   INTEGER NOT NULL, -- the delivery whose payload is posted
    payload_id   INTEGER NOT NULL,
    last_status  INTEGER NOT NULL,
    last_class   TEXT NOT NULL,
    fence        INTEGER NOT NULL, -- with which it last left the queue
    PRIMARY KEY (at, id)
) STRICT;
CREATE INDEX push_deliveries_app ON push_deliveries (app, at, id);
CREATE INDEX push_deliveries_message ON push_deliveries (message_at, message_id);
CREATE INDEX push_deliveries_user ON push_deliveries (user_id, at, id) WHERE user_id IS NOT NULL;
CREATE INDEX push_deliveries_shared ON push_deliveries (payload_at) WHERE origin_id IS NOT NULL;

-- The deliveries that have failed: few, so that they are found among many.
CREATE TABLE push_failed (
    at  INTEGER NOT NULL,
    id  INTEGER NOT NULL,
    app INTEGER NOT NULL,
    PRIMARY KEY (at, id)
) STRICT;
CREATE INDEX push_failed_app ON push_failed (app, at, id);

-- A row for each delivery that is pending or under way. What a claim hands out
-- is here beside the record, so that it reads no partition but the payload's.
CREATE TABLE push_queue (
    id            INTEGER NOT NULL PRIMARY KEY,
    at            INTEGER NOT NULL,
    subscription  INTEGER NOT NULL,
    app           INTEGER NOT NULL,
    message_at    INTEGER NOT NULL,
    message_id    INTEGER NOT NULL,
    topic         TEXT NOT NULL,
    user_id       TEXT,
    grant_id      TEXT,
    order_key     TEXT,
    payload_at    INTEGER NOT NULL,
    payload_id    INTEGER NOT NULL,
    state         INTEGER NOT NULL, -- pending or delivering
    held          INTEGER NOT NULL DEFAULT 0, -- waits behind an older one of its key
    due_at        INTEGER NOT NULL,
    claimed_at    INTEGER,
    lease_until   INTEGER,
    node          TEXT, -- who claimed it
    fence         INTEGER NOT NULL,
    cause         INTEGER NOT NULL,
    owed          INTEGER NOT NULL, -- manual pushes that have not been attempted yet
    attempts      INTEGER NOT NULL,
    tries         INTEGER NOT NULL, -- of them those since the schedule began
    first_attempt INTEGER
) STRICT;
CREATE INDEX push_queue_due ON push_queue (subscription, due_at, id) WHERE state = 0 AND NOT held;
CREATE INDEX push_queue_claimed ON push_queue (subscription, claimed_at) WHERE state = 1;
CREATE INDEX push_queue_pull ON push_queue (app, at, id);
CREATE INDEX push_queue_held ON push_queue (subscription) WHERE held;
CREATE INDEX push_queue_order ON push_queue (subscription, order_key, id) WHERE order_key IS NOT NULL;

-- Who leaves the queue lets the next of its key go.
-- +goose StatementBegin
CREATE TRIGGER push_queue_next AFTER DELETE ON push_queue WHEN OLD.order_key IS NOT NULL BEGIN
    UPDATE push_queue SET held = 0 WHERE held = 1 AND id = (SELECT id FROM push_queue
        WHERE subscription = OLD.subscription AND order_key = OLD.order_key ORDER BY id LIMIT 1);
END;
-- +goose StatementEnd

-- What is posted: encrypted once for each delivery.
CREATE TABLE push_payloads (
    at         INTEGER NOT NULL, -- the delivery's
    id         INTEGER NOT NULL,
    key_number INTEGER NOT NULL,
    body       BLOB NOT NULL,
    PRIMARY KEY (at, id)
) STRICT;

-- The push link record: one row for each attempt.
CREATE TABLE push_attempts (
    at       INTEGER NOT NULL, -- the delivery's
    id       INTEGER NOT NULL,
    fence    INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    cause    INTEGER NOT NULL,
    started  INTEGER NOT NULL,
    duration INTEGER NOT NULL, -- microseconds
    address  TEXT NOT NULL,
    status   INTEGER NOT NULL,
    class    TEXT NOT NULL,
    error    TEXT NOT NULL,
    response BLOB,
    node     TEXT NOT NULL,
    PRIMARY KEY (at, id, fence)
) STRICT;

CREATE TABLE push_jobs (
    id         TEXT NOT NULL PRIMARY KEY,
    cause      INTEGER NOT NULL,
    filter     TEXT NOT NULL, -- JSON
    state      TEXT NOT NULL,
    actor      TEXT NOT NULL,
    total      INTEGER NOT NULL,
    done       INTEGER NOT NULL,
    cursor_at  INTEGER NOT NULL,
    cursor_id  INTEGER NOT NULL,
    end_id     INTEGER NOT NULL, -- the last delivery when it was made
    created_at INTEGER,
    updated_at INTEGER
) STRICT;
CREATE INDEX push_jobs_running ON push_jobs (created_at) WHERE state = 'running';
