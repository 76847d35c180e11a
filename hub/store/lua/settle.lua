-- What becomes of a claimed action that was not sent; nothing where the claim is another one's by now.
-- KEYS 1 o 2 try 3 due:<connector> 4 dead:<org>/<conversation> 5 deads:<connector> 6 back
-- ARGV 1 what: later (tried again after a delay) | doom (given up; noted first, so that whoever takes it up goes on with that)
--             | bury (taken out and kept as a dead letter; the next action is due)
--       2 action id  3 claim ('*' = an operator, where nobody has it)  4 member  5 delay (ms)  6 reason, or the record  7 tries to take back
--       8 where the connector is woken  9 most dead letters  10 base of the keys
local kept = redis.call('HMGET', KEYS[2], 'id', 'claim')
local first = redis.call('LINDEX', KEYS[1], 0)
if not first or string.match(first, '^%S+') ~= ARGV[2] then return 0 end
if ARGV[3] ~= '*' and (kept[1] ~= ARGV[2] or kept[2] ~= ARGV[3]) then return 0 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local at = now + ARGV[5]
if ARGV[3] == '*' and kept[1] == ARGV[2] and kept[2] then
  local due = redis.call('ZSCORE', KEYS[3], ARGV[4])
  if due and tonumber(due) > now then return 0 end -- somebody is sending it: two at once would be two messages
end
if ARGV[1] ~= 'bury' then
  if kept[1] ~= ARGV[2] then redis.call('DEL', KEYS[2]) end
  redis.call('HSET', KEYS[2], 'id', ARGV[2], ARGV[1] == 'doom' and 'doom' or 'why', ARGV[6])
  if ARGV[7] ~= '0' then redis.call('HSET', KEYS[2], 'tries', (redis.call('HGET', KEYS[2], 'tries') or 0) - ARGV[7]) end
  if ARGV[1] == 'later' or ARGV[3] == '*' then redis.call('HDEL', KEYS[2], 'claim') end
  redis.call('ZADD', KEYS[3], at, ARGV[4])
  if tonumber(ARGV[5]) == 0 then redis.call('SPUBLISH', ARGV[8], '1') end
  return 1
end
redis.call('LPOP', KEYS[1])
redis.call('DEL', KEYS[2])
redis.call('HDEL', KEYS[6], ARGV[2])
redis.call('HSET', KEYS[4], ARGV[2], ARGV[6] .. '\n' .. first)
redis.call('ZADD', KEYS[5], at, ARGV[4] .. ' ' .. ARGV[2])
while redis.call('ZCARD', KEYS[5]) > tonumber(ARGV[9]) do
  local oldest = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', '+inf', 'LIMIT', 0, 1)[1]
  redis.call('ZREM', KEYS[5], oldest)
  local member, id = string.match(oldest, '^(%S+) (%S+)$')
  redis.call('HDEL', ARGV[10] .. 'dead:' .. member, id)
end
if redis.call('LLEN', KEYS[1]) > 0 then
  redis.call('ZADD', KEYS[3], 0, ARGV[4])
  redis.call('SPUBLISH', ARGV[8], '1')
else
  redis.call('ZREM', KEYS[3], ARGV[4])
end
return 1
