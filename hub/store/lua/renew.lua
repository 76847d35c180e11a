-- Extends the leases of the sessions that were heard. The monitor's id is the whole fence: takeover, stop and expiry
-- take it away, and then there is nothing to extend.
-- KEYS  1 due  2.. c, one per line     ARGV  1 lease_ms  2.. three per line: member of due, monitor_id, session
-- Answers now (ms) and per line 1 (extended) or 0 (not theirs any more).
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local kept = {}
for i = 2, #KEYS do
  local a = 2 + (i - 2) * 3
  local field = 'ml:' .. ARGV[a + 2]
  local c = redis.call('HMGET', KEYS[i], 'm.id', field)
  kept[i - 1] = 0
  if c[1] == ARGV[a + 1] and c[2] and tonumber(c[2]) > now then
    local ends = now + ARGV[1]
    redis.call('HSET', KEYS[i], field, string.format('%d', ends))
    -- No lease ends later than one that begins now, unless the clock was set back: then all are cut to that (cut.lua), or
    -- what is due would stay an hour ahead of this one, and nobody could end it meanwhile.
    if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[a]) or 0) > ends then
      local all = redis.call('HGETALL', KEYS[i])
      for f = 1, #all, 2 do
        if string.sub(all[f], 1, 3) == 'ml:' and tonumber(all[f + 1]) > ends then redis.call('HSET', KEYS[i], all[f], ends) end
      end
    end
    redis.call('ZADD', KEYS[1], ends, ARGV[a])
    kept[i - 1] = 1
  end
end
return {now, kept}
