-- What apps subscribe to, where it is pushed, and the keys that sign and encrypt
-- it. Lists and settings are JSON; NULL is an empty one.

-- +goose Up
CREATE TABLE topics (
    name        TEXT NOT NULL PRIMARY KEY,
    title       TEXT NOT NULL,
    description TEXT NOT NULL,
    package     TEXT NOT NULL REFERENCES packages (name),
    user_token  INTEGER NOT NULL,
    status      TEXT NOT NULL,
    schema      TEXT,
    example     TEXT,
    spec        TEXT,
    source      TEXT NOT NULL
) STRICT;
CREATE INDEX topics_package ON topics (package);

-- A number is never given twice: deliveries refer to it.
CREATE TABLE subscriptions (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    app           INTEGER NOT NULL REFERENCES apps (number) ON DELETE CASCADE,
    environment   TEXT NOT NULL,
    url           TEXT NOT NULL,
    settings      TEXT NOT NULL, -- filter, order, caps, schedule, format
    status        TEXT NOT NULL,
    reason        TEXT NOT NULL,
    failing_since INTEGER,
    verified_at   INTEGER,
    created_at    INTEGER,
    updated_at    INTEGER
) STRICT;
CREATE INDEX subscriptions_app ON subscriptions (app, number);

-- A topic is in one subscription of an app and environment, so a message makes
-- one delivery for an app.
CREATE TABLE subscription_topics (
    app          INTEGER NOT NULL,
    environment  TEXT NOT NULL,
    topic        TEXT NOT NULL,
    subscription INTEGER NOT NULL REFERENCES subscriptions (number) ON DELETE CASCADE,
    PRIMARY KEY (app, environment, topic)
) STRICT;
CREATE INDEX subscription_topics_subscription ON subscription_topics (subscription);
CREATE INDEX subscription_topics_topic ON subscription_topics (topic);

CREATE TABLE push_keys (
    app         INTEGER NOT NULL REFERENCES apps (number) ON DELETE CASCADE,
    number      INTEGER NOT NULL,
    environment TEXT NOT NULL,
    kind        TEXT NOT NULL,
    key_id      TEXT NOT NULL REFERENCES master_keys (id),
    sealed      BLOB NOT NULL,
    public_key  TEXT NOT NULL,
    created_at  INTEGER,
    expires_at  INTEGER,
    PRIMARY KEY (app, number)
) STRICT;
CREATE INDEX push_keys_key ON push_keys (key_id);
