-- Who has which delivery is a row of its own, so that a claim changes nothing of
-- the queue.

-- +goose Up
CREATE TABLE push_claims (
    subscription INTEGER NOT NULL,
    fence        INTEGER NOT NULL, -- when it was claimed, and more than the queue's
    id           INTEGER NOT NULL, -- the delivery
    lease_until  INTEGER NOT NULL,
    node         TEXT NOT NULL,
    PRIMARY KEY (subscription, fence, id)
) STRICT, WITHOUT ROWID;

INSERT INTO push_claims (subscription, fence, id, lease_until, node)
    SELECT subscription, fence, id, lease_until, coalesce(node, '') FROM push_queue WHERE state = 1;
-- The queue has the fence of the last claim that is over.
UPDATE push_queue SET fence = fence - 1 WHERE state = 1;

-- No release has had these columns.
DROP INDEX push_queue_due;
DROP INDEX push_queue_claimed;
ALTER TABLE push_queue DROP COLUMN state;
ALTER TABLE push_queue DROP COLUMN claimed_at;
ALTER TABLE push_queue DROP COLUMN lease_until;
ALTER TABLE push_queue DROP COLUMN node;
CREATE INDEX push_queue_due ON push_queue (subscription, due_at, id) WHERE NOT held;
