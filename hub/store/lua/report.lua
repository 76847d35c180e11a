-- The first action of a conversation was reported: the next one is due. KEYS 1 o 2 due:<connector> 3 c
-- ARGV 1 action id  2 member  3 where the platform is woken  4 connector whose conversation it must be
if redis.call('HGET', KEYS[3], 'conn') ~= ARGV[4] then return 0 end
local first = redis.call('LINDEX', KEYS[1], 0)
if not first or string.sub(first, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ' then return 0 end
redis.call('LPOP', KEYS[1])
if redis.call('LLEN', KEYS[1]) > 0 then
  redis.call('ZADD', KEYS[2], 0, ARGV[2])
  redis.call('SPUBLISH', ARGV[3], '1')
else
  redis.call('ZREM', KEYS[2], ARGV[2])
end
return 1
