-- Devices without a browser that wait for a merchant's answer (RFC 8628). Of
-- both codes there is only the SHA-256. Times and intervals are microseconds.

-- +goose Up
CREATE TABLE oauth_devices (
    hash          BYTEA NOT NULL PRIMARY KEY,
    user_code     BYTEA NOT NULL,
    app           BIGINT NOT NULL,
    environment   TEXT COLLATE "C" NOT NULL,
    scopes        TEXT COLLATE "C",
    resources     TEXT COLLATE "C",
    dpop_key      TEXT COLLATE "C" NOT NULL,
    state         TEXT COLLATE "C" NOT NULL,
    user_id       TEXT COLLATE "C",
    grant_id      TEXT COLLATE "C",
    family        TEXT COLLATE "C",
    poll_interval BIGINT NOT NULL,
    polled_at     BIGINT,
    hasty         BOOLEAN NOT NULL,
    issued_at     BIGINT,
    expires_at    BIGINT NOT NULL,
    redeemed_at   BIGINT
);
CREATE UNIQUE INDEX oauth_devices_user_code ON oauth_devices (user_code);
CREATE INDEX oauth_devices_expiry ON oauth_devices (expires_at);
