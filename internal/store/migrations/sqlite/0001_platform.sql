-- Times are Unix microseconds in UTC; NULL is no time. Text compares by its
-- bytes. Secrets are sealed: key_id names the master key that opens them.

-- +goose Up
CREATE TABLE master_keys (
    id         TEXT    NOT NULL PRIMARY KEY,
    check_seal BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE packages (
    name        TEXT NOT NULL PRIMARY KEY,
    title       TEXT NOT NULL,
    description TEXT NOT NULL,
    source      TEXT NOT NULL
) STRICT;
INSERT INTO packages (name, title, description, source) VALUES ('basic', '', '', '');

CREATE TABLE plans (
    name  TEXT NOT NULL PRIMARY KEY,
    title TEXT NOT NULL
) STRICT;

CREATE TABLE ip_groups (
    name TEXT NOT NULL PRIMARY KEY
) STRICT;

CREATE TABLE ip_group_rules (
    group_name TEXT    NOT NULL REFERENCES ip_groups (name) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    prefix     TEXT    NOT NULL,
    note       TEXT    NOT NULL,
    PRIMARY KEY (group_name, position)
) STRICT, WITHOUT ROWID;

-- A number is never given twice: limits and nonces count by it.
CREATE TABLE apps (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL UNIQUE,
    app_key    TEXT    NOT NULL UNIQUE,
    name       TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    mode       TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    plan       TEXT    REFERENCES plans (name),
    created_at INTEGER,
    updated_at INTEGER
) STRICT;
CREATE INDEX apps_plan ON apps (plan) WHERE plan IS NOT NULL;

CREATE TABLE app_ips (
    app        INTEGER NOT NULL REFERENCES apps (number) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    prefix     TEXT    NOT NULL,
    group_name TEXT    REFERENCES ip_groups (name),
    note       TEXT    NOT NULL,
    PRIMARY KEY (app, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX app_ips_group ON app_ips (group_name) WHERE group_name IS NOT NULL;

CREATE TABLE app_credentials (
    app         INTEGER NOT NULL REFERENCES apps (number) ON DELETE CASCADE,
    number      INTEGER NOT NULL,
    environment TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    dialect     TEXT    NOT NULL,
    secret      BLOB,
    key_id      TEXT    REFERENCES master_keys (id),
    public_key  TEXT    NOT NULL,
    created_at  INTEGER,
    expires_at  INTEGER,
    PRIMARY KEY (app, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE app_dialects (
    app     INTEGER NOT NULL REFERENCES apps (number) ON DELETE CASCADE,
    dialect TEXT    NOT NULL,
    method  TEXT    NOT NULL,
    PRIMARY KEY (app, dialect)
) STRICT, WITHOUT ROWID;

CREATE TABLE app_packages (
    app         INTEGER NOT NULL REFERENCES apps (number) ON DELETE CASCADE,
    package     TEXT    NOT NULL REFERENCES packages (name),
    valid_from  INTEGER,
    valid_until INTEGER,
    PRIMARY KEY (app, package)
) STRICT, WITHOUT ROWID;
CREATE INDEX app_packages_package ON app_packages (package);

CREATE TABLE apis (
    name           TEXT    NOT NULL,
    version        TEXT    NOT NULL,
    title          TEXT    NOT NULL,
    method         TEXT    NOT NULL,
    path           TEXT    NOT NULL,
    provider       TEXT    NOT NULL,
    package        TEXT    NOT NULL REFERENCES packages (name),
    user_token     INTEGER NOT NULL,
    status         TEXT    NOT NULL,
    deprecated_at  INTEGER,
    sunset         INTEGER,
    upstream       TEXT    NOT NULL,
    example_status INTEGER NOT NULL,
    example_type   TEXT    NOT NULL,
    example_body   BLOB,
    spec           TEXT,
    source         TEXT    NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;
CREATE INDEX apis_package ON apis (package);

-- All limits but those of single calls: owner is empty for the platform,
-- name@version for an API, else a plan's name; api is set for the scope plan_api.
CREATE TABLE limits (
    scope         TEXT    NOT NULL,
    owner         TEXT    NOT NULL,
    api           TEXT    NOT NULL,
    rate_requests INTEGER NOT NULL,
    rate_period   INTEGER NOT NULL, -- nanoseconds
    rate_burst    INTEGER NOT NULL,
    quota_day     INTEGER NOT NULL,
    quota_month   INTEGER NOT NULL,
    PRIMARY KEY (scope, owner, api)
) STRICT, WITHOUT ROWID;

CREATE TABLE catalog_digests (
    source TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL
) STRICT;

CREATE TABLE audit (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at          INTEGER NOT NULL,
    actor       TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    target      TEXT    NOT NULL,
    before_json TEXT,
    after_json  TEXT
) STRICT;
CREATE INDEX audit_target ON audit (target, id);

CREATE TABLE quota_counts (
    scope        INTEGER NOT NULL,
    app          INTEGER NOT NULL,
    sub          INTEGER NOT NULL,
    unit         INTEGER NOT NULL,
    window_start INTEGER NOT NULL, -- Unix seconds
    used         INTEGER NOT NULL,
    PRIMARY KEY (scope, app, sub, unit, window_start)
) STRICT, WITHOUT ROWID;
