-- The next action of each conversation that has one due for this connector, claimed for a while. A try is counted here, before
-- it is made, so that an action that ends its node each time is given up as well.
-- KEYS 1 due:<connector>   ARGV 1 base of the keys 'hub:{p}:'  2 claim_ms  3 how many  4 claim (a random word)
--       5 how long tries are remembered (ms)
-- Answers now, then per conversation: member, action, tries, reason of the last one, why it was given up, when put back ('' = none)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local out = {tostring(now)}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local action = redis.call('LINDEX', ARGV[1] .. 'o:' .. member, 0)
  if action then
    local key, id = ARGV[1] .. 'try:' .. member, string.match(action, '^%S+')
    if redis.call('HGET', key, 'id') ~= id then redis.call('DEL', key) end
    local tries = (redis.call('HGET', key, 'tries') or 0) + 1
    redis.call('HSET', key, 'id', id, 'claim', ARGV[4], 'tries', tries)
    redis.call('PEXPIRE', key, ARGV[5])
    redis.call('ZADD', KEYS[1], now + ARGV[2], member)
    local kept = redis.call('HMGET', key, 'why', 'doom')
    local back = redis.call('HGET', ARGV[1] .. 'back:' .. member, id)
    for _, one in ipairs({member, action, tostring(tries), kept[1] or '', kept[2] or '', back or ''}) do out[#out + 1] = one end
  else
    redis.call('ZREM', KEYS[1], member)
  end
end
return out
