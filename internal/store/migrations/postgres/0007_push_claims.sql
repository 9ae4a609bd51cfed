-- Who has which delivery is a row of its own, so that a claim changes nothing of
-- the queue. The table is not logged: after a crash of the server it is empty,
-- and what was under way is pending again.

-- +goose Up
CREATE UNLOGGED TABLE push_claims (
    subscription BIGINT NOT NULL,
    fence        BIGINT NOT NULL, -- when it was claimed, and more than the queue's
    id           BIGINT NOT NULL, -- the delivery
    lease_until  BIGINT NOT NULL,
    node         TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (subscription, fence, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

INSERT INTO push_claims (subscription, fence, id, lease_until, node)
    SELECT subscription, fence, id, lease_until, coalesce(node, '') FROM push_queue WHERE state = 1;
-- The queue has the fence of the last claim that is over.
UPDATE push_queue SET fence = fence - 1 WHERE state = 1;

-- No release has had these columns.
DROP INDEX push_queue_due, push_queue_claimed;
ALTER TABLE push_queue DROP COLUMN state, DROP COLUMN claimed_at, DROP COLUMN lease_until, DROP COLUMN node;
ALTER TABLE push_queue SET (fillfactor = 100);
CREATE INDEX push_queue_due ON push_queue (subscription, due_at, id) WHERE NOT held;
