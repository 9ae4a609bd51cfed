-- Merchants, what they authorize, and the codes and tokens that come of it. Of
-- a code or a token there is only the SHA-256. Lists are JSON arrays of text;
-- NULL is an empty one.

-- +goose Up
ALTER TABLE apps ADD COLUMN oauth TEXT COLLATE "C"; -- platform.OAuthSettings as JSON

CREATE TABLE users (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    login      TEXT COLLATE "C",
    name       TEXT COLLATE "C" NOT NULL,
    status     TEXT COLLATE "C" NOT NULL,
    issuer     TEXT COLLATE "C",
    subject    TEXT COLLATE "C",
    password   TEXT COLLATE "C",
    created_at BIGINT,
    updated_at BIGINT
);
CREATE UNIQUE INDEX users_login ON users (login) WHERE login IS NOT NULL;
CREATE UNIQUE INDEX users_identity ON users (issuer, subject) WHERE issuer IS NOT NULL;

CREATE TABLE grants (
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id     TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    app         BIGINT NOT NULL REFERENCES apps (number) ON DELETE CASCADE,
    environment TEXT COLLATE "C" NOT NULL,
    scopes      TEXT COLLATE "C",
    created_at  BIGINT,
    expires_at  BIGINT NOT NULL,
    revoked_at  BIGINT
);
-- A merchant has one grant at a time for an app.
CREATE UNIQUE INDEX grants_live ON grants (user_id, app, environment) WHERE revoked_at IS NULL;
CREATE INDEX grants_user ON grants (user_id, id);
CREATE INDEX grants_app ON grants (app, id);
CREATE INDEX grants_ended ON grants (coalesce(revoked_at, expires_at));

-- What hangs from one authorization. Revoking is deleting: no token can be
-- saved for a family that is gone, whoever comes first.
CREATE TABLE oauth_families (
    id       TEXT COLLATE "C" NOT NULL,
    grant_id TEXT COLLATE "C" NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    PRIMARY KEY (id, grant_id)
);
CREATE INDEX oauth_families_grant ON oauth_families (grant_id);

-- A code outlives its use and its family, so that a replay is seen.
CREATE TABLE oauth_codes (
    hash           BYTEA NOT NULL PRIMARY KEY,
    family         TEXT COLLATE "C" NOT NULL,
    grant_id       TEXT COLLATE "C" NOT NULL,
    app            BIGINT NOT NULL,
    environment    TEXT COLLATE "C" NOT NULL,
    user_id        TEXT COLLATE "C" NOT NULL,
    redirect_uri   TEXT COLLATE "C" NOT NULL,
    redirect_given BOOLEAN NOT NULL,
    challenge      TEXT COLLATE "C" NOT NULL,
    scopes         TEXT COLLATE "C",
    resources      TEXT COLLATE "C",
    dpop_key       TEXT COLLATE "C" NOT NULL,
    issued_at      BIGINT,
    expires_at     BIGINT NOT NULL,
    redeemed_at    BIGINT
);
CREATE INDEX oauth_codes_expiry ON oauth_codes (expires_at);

-- Tokens of client credentials have no grant, and so no row of a family: a key
-- with a NULL in it refers to nothing.
CREATE TABLE oauth_tokens (
    hash        BYTEA NOT NULL PRIMARY KEY,
    family      TEXT COLLATE "C" NOT NULL,
    grant_id    TEXT COLLATE "C",
    kind        BIGINT NOT NULL,
    app         BIGINT NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    user_id     TEXT COLLATE "C",
    scopes      TEXT COLLATE "C",
    resources   TEXT COLLATE "C",
    dpop_key    TEXT COLLATE "C" NOT NULL,
    issued_at   BIGINT,
    expires_at  BIGINT NOT NULL,
    replaced_at BIGINT,
    FOREIGN KEY (family, grant_id) REFERENCES oauth_families (id, grant_id) ON DELETE CASCADE
);
CREATE INDEX oauth_tokens_family ON oauth_tokens (family);
CREATE INDEX oauth_tokens_expiry ON oauth_tokens (expires_at);
