-- Keeps the list of nodes that live. KEYS[1]: the list. ARGV[1]: who calls.
-- Returns how many there are. A node that was not heard of for 7 s is gone.
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1e6
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 7)
redis.call('EXPIRE', KEYS[1], 60)
return tostring(redis.call('ZCARD', KEYS[1]))
