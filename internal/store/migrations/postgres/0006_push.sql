-- Messages, and what became of them. The tables that are partitioned by time
-- keep the record; push_queue has the deliveries that live, and nothing else, so
-- that work is found at the same speed however much has been delivered.

-- +goose Up
CREATE TABLE push_messages (
    at          BIGINT NOT NULL,
    id          BIGINT NOT NULL, -- random
    environment TEXT COLLATE "C" NOT NULL,
    topic       TEXT COLLATE "C" NOT NULL,
    user_id     TEXT COLLATE "C",
    order_key   TEXT COLLATE "C",
    time        BIGINT,
    data        BYTEA NOT NULL,
    idempotency TEXT COLLATE "C",
    PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
CREATE INDEX push_messages_topic ON push_messages (topic, at);
CREATE INDEX push_messages_user ON push_messages (user_id, at) WHERE user_id IS NOT NULL;

-- What publishers call their messages, for a day.
CREATE TABLE push_idempotency (
    environment TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    digest      BYTEA NOT NULL,
    message_at  BIGINT NOT NULL,
    message_id  BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (environment, key)
);
CREATE INDEX push_idempotency_at ON push_idempotency (at);

CREATE SEQUENCE push_deliveries_id_seq AS BIGINT CACHE 1;

-- The record of a delivery. Only columns without an index change; while it is in
-- the queue its state is pending.
CREATE TABLE push_deliveries (
    at           BIGINT NOT NULL,
    id           BIGINT NOT NULL,
    message_at   BIGINT NOT NULL,
    message_id   BIGINT NOT NULL,
    subscription BIGINT NOT NULL,
    app          BIGINT NOT NULL,
    environment  TEXT COLLATE "C" NOT NULL,
    topic        TEXT COLLATE "C" NOT NULL,
    user_id      TEXT COLLATE "C",
    grant_id     TEXT COLLATE "C",
    order_key    TEXT COLLATE "C", -- NULL where the subscription is not ordered
    state        SMALLINT NOT NULL,
    cause        SMALLINT NOT NULL,
    attempts     INT NOT NULL,
    delivered_at BIGINT,
    origin_at    BIGINT, -- the delivery that a reset repeats
    origin_id    BIGINT,
    payload_at   BIGINT NOT NULL, -- the delivery whose payload is posted
    payload_id   BIGINT NOT NULL,
    last_status  INT NOT NULL,
    last_class   TEXT COLLATE "C" NOT NULL,
    fence        BIGINT NOT NULL, -- with which it last left the queue
    PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
CREATE INDEX push_deliveries_app ON push_deliveries (app, at, id);
CREATE INDEX push_deliveries_message ON push_deliveries (message_at, message_id);
CREATE INDEX push_deliveries_user ON push_deliveries (user_id, at, id) WHERE user_id IS NOT NULL;
CREATE INDEX push_deliveries_shared ON push_deliveries (payload_at) WHERE origin_id IS NOT NULL;

-- The deliveries that have failed: few, so that they are found among many.
CREATE TABLE push_failed (
    at  BIGINT NOT NULL,
    id  BIGINT NOT NULL,
    app BIGINT NOT NULL,
    PRIMARY KEY (at, id)
);
CREATE INDEX push_failed_app ON push_failed (app, at, id);

-- A row for each delivery that is pending or under way. What a claim hands out
-- is here beside the record, so that it reads no partition but the payload's.
CREATE TABLE push_queue (
    id            BIGINT NOT NULL PRIMARY KEY,
    at            BIGINT NOT NULL,
    subscription  BIGINT NOT NULL,
    app           BIGINT NOT NULL,
    message_at    BIGINT NOT NULL,
    message_id    BIGINT NOT NULL,
    topic         TEXT COLLATE "C" NOT NULL,
    user_id       TEXT COLLATE "C",
    grant_id      TEXT COLLATE "C",
    order_key     TEXT COLLATE "C",
    payload_at    BIGINT NOT NULL,
    payload_id    BIGINT NOT NULL,
    state         SMALLINT NOT NULL, -- pending or delivering
    held          BOOLEAN NOT NULL DEFAULT false, -- waits behind an older one of its key
    due_at        BIGINT NOT NULL,
    claimed_at    BIGINT,
    lease_until   BIGINT,
    node          TEXT COLLATE "C", -- who claimed it
    fence         BIGINT NOT NULL,
    cause         SMALLINT NOT NULL,
    owed          INT NOT NULL, -- manual pushes that have not been attempted yet
    attempts      INT NOT NULL,
    tries         INT NOT NULL, -- of them those since the schedule began
    first_attempt BIGINT
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX push_queue_due ON push_queue (subscription, due_at, id) WHERE state = 0 AND NOT held;
CREATE INDEX push_queue_claimed ON push_queue (subscription, claimed_at) WHERE state = 1;
CREATE INDEX push_queue_pull ON push_queue (app, at, id);
CREATE INDEX push_queue_held ON push_queue (subscription) WHERE held;
CREATE INDEX push_queue_order ON push_queue (subscription, order_key, id) WHERE order_key IS NOT NULL;

-- Who leaves the queue lets the next of its key go. Claims hold the row of the
-- subscription, so none of them is holding that one back meanwhile.
-- +goose StatementBegin
CREATE FUNCTION push_queue_next() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM subscriptions WHERE number = OLD.subscription FOR UPDATE;
    UPDATE push_queue SET held = false, due_at = greatest(due_at, CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT))
        WHERE held AND id = (SELECT id FROM push_queue
            WHERE subscription = OLD.subscription AND order_key = OLD.order_key ORDER BY id LIMIT 1);
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER push_queue_next AFTER DELETE ON push_queue FOR EACH ROW WHEN (OLD.order_key IS NOT NULL) EXECUTE FUNCTION push_queue_next();

-- What is posted: encrypted once for each delivery.
CREATE TABLE push_payloads (
    at         BIGINT NOT NULL, -- the delivery's
    id         BIGINT NOT NULL,
    key_number BIGINT NOT NULL,
    body       BYTEA NOT NULL,
    PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
ALTER TABLE push_payloads ALTER COLUMN body SET STORAGE EXTERNAL; -- encrypted: nothing to compress

-- The push link record: one row for each attempt.
CREATE TABLE push_attempts (
    at       BIGINT NOT NULL, -- the delivery's
    id       BIGINT NOT NULL,
    fence    BIGINT NOT NULL,
    number   INT NOT NULL,
    cause    SMALLINT NOT NULL,
    started  BIGINT NOT NULL,
    duration BIGINT NOT NULL, -- microseconds
    address  TEXT COLLATE "C" NOT NULL,
    status   INT NOT NULL,
    class    TEXT COLLATE "C" NOT NULL,
    error    TEXT COLLATE "C" NOT NULL,
    response BYTEA,
    node     TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (at, id, fence)
) PARTITION BY RANGE (at);

CREATE TABLE push_jobs (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    cause      SMALLINT NOT NULL,
    filter     TEXT COLLATE "C" NOT NULL, -- JSON
    state      TEXT COLLATE "C" NOT NULL,
    actor      TEXT COLLATE "C" NOT NULL,
    total      BIGINT NOT NULL,
    done       BIGINT NOT NULL,
    cursor_at  BIGINT NOT NULL,
    cursor_id  BIGINT NOT NULL,
    end_id     BIGINT NOT NULL, -- the last delivery when it was made
    created_at BIGINT,
    updated_at BIGINT
);
CREATE INDEX push_jobs_running ON push_jobs (created_at) WHERE state = 'running';
