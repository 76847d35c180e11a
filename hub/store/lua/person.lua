-- One person's record, if it is still what was decided on; the log of people tells every node.
-- KEYS  1 people (hash)  2 its log  3 the log's top     ARGV  1 user  2 expected ('' = none)  3 new  4 tag  5 log entry
local old = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if old ~= ARGV[2] then return {'conflict', old} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
local b = redis.call('HMGET', KEYS[3], 'top', 'tag')
local top = (b[1] or 0) + 1
local at = string.format('%d-%s', top, ARGV[4])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 4000, at, 'h', '-', 'e', ARGV[5])
redis.call('SPUBLISH', KEYS[2], at .. ' ' .. (b[2] or '0') .. ' - ' .. ARGV[5])
redis.call('HSET', KEYS[3], 'top', top, 'tag', ARGV[4])
return {'ok'}
