-- Gives a session to a new socket, if the secret is the one it was given last. The answer that brought that one may have
-- been lost with its line, so until the client was heard on it (then `before` is empty) the one before counts, too: at once
-- when that socket has closed (`attached` is empty), else when it has been silent for some time.
-- KEYS 1 s   ARGV 1 hash of the secret 2 user '<org>/<role>/<user>' 3 new hash 4 nonce of the attachment 5 node 6 ttl_ms
--            7 silence in ms
local s = redis.call('HMGET', KEYS[1], 'secret', 'user', 'node', 'nonce', 'views', 'monitors', 'before', 'attached')
if not s[1] or s[2] ~= ARGV[2] then return false end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if s[1] ~= ARGV[1] then
  if s[7] ~= ARGV[1] then return false end
  if s[8] ~= '' and now - s[8] < tonumber(ARGV[7]) then return 'unproven' end
end
redis.call('HSET', KEYS[1], 'secret', ARGV[3], 'nonce', ARGV[4], 'node', ARGV[5], 'before', ARGV[1], 'attached', string.format('%d', now))
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return {s[3], s[4], s[5] or '', s[6] or ''}
