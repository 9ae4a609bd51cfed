-- The refresh tokens of a grant by age: the oldest go when there are too many.

-- +goose Up
CREATE INDEX oauth_tokens_refresh ON oauth_tokens (grant_id, issued_at) WHERE kind = 2;
