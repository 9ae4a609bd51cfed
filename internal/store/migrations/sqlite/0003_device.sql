-- Devices without a browser that wait for a merchant's answer (RFC 8628). Of
-- both codes there is only the SHA-256. Times and intervals are microseconds.

-- +goose Up
CREATE TABLE oauth_devices (
    hash          BLOB    NOT NULL PRIMARY KEY,
    user_code     BLOB    NOT NULL,
    app           INTEGER NOT NULL,
    environment   TEXT    NOT NULL,
    scopes        TEXT,
    resources     TEXT,
    dpop_key      TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    user_id       TEXT,
    grant_id      TEXT,
    family        TEXT,
    poll_interval INTEGER NOT NULL,
    polled_at     INTEGER,
    hasty         INTEGER NOT NULL,
    issued_at     INTEGER,
    expires_at    INTEGER NOT NULL,
    redeemed_at   INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX oauth_devices_user_code ON oauth_devices (user_code);
CREATE INDEX oauth_devices_expiry ON oauth_devices (expires_at);
