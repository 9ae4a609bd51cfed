-- A claim is found by its delivery.

-- +goose Up
ALTER TABLE push_claims RENAME TO push_claims_before;
CREATE TABLE push_claims (
    id           INTEGER NOT NULL PRIMARY KEY, -- the delivery
    fence        INTEGER NOT NULL, -- when it was claimed, and more than the queue's
    subscription INTEGER NOT NULL,
    lease_until  INTEGER NOT NULL,
    node         TEXT NOT NULL
) STRICT;
CREATE INDEX push_claims_subscription ON push_claims (subscription);
INSERT INTO push_claims (id, fence, subscription, lease_until, node)
    SELECT id, fence, subscription, lease_until, node FROM push_claims_before;
DROP TABLE push_claims_before;
