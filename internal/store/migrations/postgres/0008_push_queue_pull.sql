-- The queue is looked into by the number of a delivery, and its primary key must be
-- the only index that can do so. What was empty a while ago costs PostgreSQL nothing
-- to read, by whichever index, so that it may take one in which the number comes last.
-- No query that leaves the app out can use this one now.

-- +goose Up
DROP INDEX push_queue_pull;
CREATE INDEX push_queue_pull ON push_queue (app, at, id) WHERE app > 0;
