-- Merchants, what they authorize, and the codes and tokens that come of it. Of
-- a code or a token there is only the SHA-256. Lists are JSON arrays of text;
-- NULL is an empty one.

-- +goose Up
ALTER TABLE apps ADD COLUMN oauth TEXT; -- platform.OAuthSettings as JSON

CREATE TABLE users (
    id         TEXT    NOT NULL PRIMARY KEY,
    login      TEXT,
    name       TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    issuer     TEXT,
    subject    TEXT,
    password   TEXT,
    created_at INTEGER,
    updated_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX users_login ON users (login) WHERE login IS NOT NULL;
CREATE UNIQUE INDEX users_identity ON users (issuer, subject) WHERE issuer IS NOT NULL;

CREATE TABLE grants (
    id          TEXT    NOT NULL PRIMARY KEY,
    user_id     TEXT    NOT NULL REFERENCES users (id),
    app         INTEGER NOT NULL REFERENCES apps (number) ON DELETE CASCADE,
    environment TEXT    NOT NULL,
    scopes      TEXT,
    created_at  INTEGER,
    expires_at  INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT, WITHOUT ROWID;
-- A merchant has one grant at a time for an app.
CREATE UNIQUE INDEX grants_live ON grants (user_id, app, environment) WHERE revoked_at IS NULL;
CREATE INDEX grants_user ON grants (user_id, id);
CREATE INDEX grants_app ON grants (app, id);
CREATE INDEX grants_ended ON grants (coalesce(revoked_at, expires_at));

-- What hangs from one authorization. Revoking is deleting: no token can be
-- saved for a family that is gone, whoever comes first.
CREATE TABLE oauth_families (
    id       TEXT NOT NULL,
    grant_id TEXT NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    PRIMARY KEY (id, grant_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_families_grant ON oauth_families (grant_id);

-- A code outlives its use and its family, so that a replay is seen.
CREATE TABLE oauth_codes (
    hash           BLOB    NOT NULL PRIMARY KEY,
    family         TEXT    NOT NULL,
    grant_id       TEXT    NOT NULL,
    app            INTEGER NOT NULL,
    environment    TEXT    NOT NULL,
    user_id        TEXT    NOT NULL,
    redirect_uri   TEXT    NOT NULL,
    redirect_given INTEGER NOT NULL,
    challenge      TEXT    NOT NULL,
    scopes         TEXT,
    resources      TEXT,
    dpop_key       TEXT    NOT NULL,
    issued_at      INTEGER,
    expires_at     INTEGER NOT NULL,
    redeemed_at    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_codes_expiry ON oauth_codes (expires_at);

-- Tokens of client credentials have no grant, and so no row of a family: a key
-- with a NULL in it refers to nothing.
CREATE TABLE oauth_tokens (
    hash        BLOB    NOT NULL PRIMARY KEY,
    family      TEXT    NOT NULL,
    grant_id    TEXT,
    kind        INTEGER NOT NULL,
    app         INTEGER NOT NULL,
    environment TEXT    NOT NULL,
    user_id     TEXT,
    scopes      TEXT,
    resources   TEXT,
    dpop_key    TEXT    NOT NULL,
    issued_at   INTEGER,
    expires_at  INTEGER NOT NULL,
    replaced_at INTEGER,
    FOREIGN KEY (family, grant_id) REFERENCES oauth_families (id, grant_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_tokens_family ON oauth_tokens (family);
CREATE INDEX oauth_tokens_expiry ON oauth_tokens (expires_at);
