-- A dead letter goes back to the end of its conversation's queue, or is gone for good.
-- KEYS 1 dead:<org>/<conversation> 2 deads:<connector> 3 o 4 back 5 due:<connector>
-- ARGV 1 action id  2 member  3 where the connector is woken  4 put back (0|1)  5 how long that is remembered (ms)
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if not kept then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[2] .. ' ' .. ARGV[1])
if ARGV[4] == '1' then
  local t = redis.call('TIME')
  redis.call('HSET', KEYS[4], ARGV[1], t[1] * 1000 + math.floor(t[2] / 1000)) -- its age is counted from here
  redis.call('PEXPIRE', KEYS[4], ARGV[5])
  if redis.call('RPUSH', KEYS[3], string.match(kept, '\n(.*)$')) == 1 then
    redis.call('ZADD', KEYS[5], 0, ARGV[2])
    redis.call('SPUBLISH', ARGV[3], '1')
  end
end
return 1
