-- Gives a session to a new socket, if the secret is the one it was given last. KEYS 1 s
-- ARGV 1 hash of the secret 2 user '<org>/<role>/<user>' 3 new hash 4 nonce of the attachment 5 node 6 ttl_ms
local s = redis.call('HMGET', KEYS[1], 'secret', 'user', 'node', 'nonce', 'views', 'monitors')
if not s[1] or s[1] ~= ARGV[1] or s[2] ~= ARGV[2] then return false end
redis.call('HSET', KEYS[1], 'secret', ARGV[3], 'nonce', ARGV[4], 'node', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return {s[3], s[4], s[5] or '', s[6] or ''}
