-- The next action of each conversation that has one due for this platform; each is due again after the repeat time.
-- KEYS 1 due:<connector>   ARGV 1 base of the keys 'hub:{p}:'  2 repeat_ms  3 how many  4 members to look at although claimed (0|1)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local out = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[4] == '1' and '+inf' or now, 'LIMIT', 0, ARGV[3])) do
  local action = redis.call('LINDEX', ARGV[1] .. 'o:' .. member, 0)
  if action then
    redis.call('ZADD', KEYS[1], now + ARGV[2], member)
    out[#out + 1] = member
    out[#out + 1] = action
  else
    redis.call('ZREM', KEYS[1], member)
  end
end
return out
