-- A node says that it lives; which ones do, by the store's own clock: a hub whose clock is wrong mustn't bury the others.
-- KEYS 1 nodes     ARGV 1 node  2 silence in ms after which a node doesn't count as living
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 100 * ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
return redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[2], now + ARGV[2])
