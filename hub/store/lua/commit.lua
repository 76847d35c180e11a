-- One decided transition of one conversation: everything, if what it was decided on still stands; else nothing, and what
-- to decide on now. No rule lives here.
-- KEYS  1 c  2 t  3 d  4 p  5 live  6 closed  7 board:<org>  8 bt:<org>  9 o  10 due:<connector>  11 g  12 due  13 ledger
--       14 r (the request; any key of the tag where there is none)          (one hash tag)
-- ARGV  1 version decided on ('' = there must be none)   2 monitor's version decided on ('*' = not looked at)
--       3 new version ('' = stays)   4 monitor's new version ('' = stays)   5 tag   6 now (ms)
--       7 member '<org>/<conversation>'   8 index: live | closed | ''   9 member of due that must be due ('' = none)
--       10 answer kept for the request ('' = none)   11 row   12 extra ('' = the board doesn't change)
--       13 `awaiting` that the row was made with   14 transcript_entries_max   15 where the platform is woken ('' = nowhere)
--       16 request_memory_ms   17 ledger_entries_max   18 field of the ledger's last place ('' = no lines)
--       19 the conversation's name in the ledger ('' = known)   20.. lists, each a count and its items: fields to set
--       (name, value), fields to drop, transcript (audience, body), actions, segments, due (score, member), due to drop,
--       panels (name, content), hashes of repeats, ledger
if ARGV[10] ~= '' then
  local first = redis.call('GET', KEYS[14])
  if first then return {'repeat', first} end
end
local c = redis.call('HMGET', KEYS[1], 'version', 'mv', 'top', 'tag', 'ctop', 'm.id', 'dn', 'epoch')
if (c[1] or '') ~= ARGV[1] or (ARGV[2] ~= '*' and (c[2] or '') ~= ARGV[2]) then
  return {'conflict', redis.call('TIME'), redis.call('HGETALL', KEYS[1])}
end
if ARGV[9] ~= '' then
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  local score = redis.call('ZSCORE', KEYS[12], ARGV[9])
  -- a renewal moves no version, so it is looked at again here
  if score and tonumber(score) > now then return {'not_due'} end
end

local next_arg = 20
local function take()
  local from, n = next_arg + 1, tonumber(ARGV[next_arg])
  next_arg = from + n
  return from, from + n - 1
end

-- From here on nothing refuses: a script is not rolled back.
if ARGV[10] ~= '' then redis.call('SET', KEYS[14], ARGV[10], 'PX', ARGV[16]) end
local from, to = take()
if from <= to then redis.call('HSET', KEYS[1], unpack(ARGV, from, to)) end
from, to = take()
if from <= to then redis.call('HDEL', KEYS[1], unpack(ARGV, from, to)) end
local top, tag, ctop = tonumber(c[3] or 0), c[4] or '0', tonumber(c[5] or 0)
local monitor = c[6] or '-' -- who held it when the script began: what ends or starts here is not yet so for these entries
from, to = take()
for i = from, to, 2 do
  top = top + 1
  if string.find(ARGV[i], 'c', 1, true) then ctop = ctop + 1 end
  local header = ARGV[i] .. ',' .. ctop .. ',' .. monitor
  local id = string.format('%d-%s', top, ARGV[5])
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[14], id, 'h', header, 'e', ARGV[i + 1])
  redis.call('SPUBLISH', KEYS[2], id .. ' ' .. tag .. ' ' .. header .. ' ' .. ARGV[i + 1])
  tag = ARGV[5]
end
local fields = {'top', top, 'tag', tag, 'ctop', ctop} -- set at the end, in one call
local function set(name, value) fields[#fields + 1] = name; fields[#fields + 1] = value end
if ARGV[3] ~= '' then set('version', ARGV[3]) end
if ARGV[4] ~= '' then set('mv', ARGV[4]) end
if ARGV[11] ~= '' then
  local b = redis.call('HMGET', KEYS[8], 'top', 'tag')
  local btop, btag = tonumber(b[1] or 0), b[2] or '0'
  local function publish(body)
    btop = btop + 1
    local at = string.format('%d-%s', btop, ARGV[5])
    redis.call('XADD', KEYS[7], 'MAXLEN', '~', 4000, at, 'h', '-', 'e', body)
    redis.call('SPUBLISH', KEYS[7], at .. ' ' .. btag .. ' - ' .. body)
    btag = ARGV[5]
  end
  -- the monitor as it stands now: this commit may have been decided without looking at it
  local m = redis.call('HMGET', KEYS[1], 'm.row', 'm.extra')
  local function with_monitor(text, monitor)
    local from, to = string.find(text, '"monitor":"@"', 1, true)
    return string.sub(text, 1, from - 1) .. '"monitor":' .. (monitor or 'null') .. string.sub(text, to + 1)
  end
  local row, extra = with_monitor(ARGV[11], m[1]), with_monitor(ARGV[12], m[2])
  publish('R' .. row .. '\n' .. extra)
  local now = redis.call('HMGET', KEYS[1], 'awaiting', 'since', 'messages')
  if now[1] and now[1] ~= ARGV[13] then -- a message came between deciding and this
    local conversation = string.match(ARGV[7], '/(.*)$')
    publish('P{"conversation_id":"' .. conversation .. '","awaiting":"' .. now[1] .. '","awaiting_since":' .. now[2] .. ',"messages":' .. (now[3] or 0) .. '}')
  end
  redis.call('HSET', KEYS[8], 'top', btop, 'tag', btag)
  set('row', row)
  set('extra', extra)
  set('row_at', btop)
end
from, to = take()
local pushed = 0
for i = from, to do pushed = redis.call('RPUSH', KEYS[9], ARGV[i]) end
if from <= to and pushed == to - from + 1 then
  redis.call('ZADD', KEYS[10], 0, ARGV[7])
  if ARGV[15] ~= '' then redis.call('SPUBLISH', ARGV[15], '1') end
end
from, to = take()
for i = from, to do redis.call('XADD', KEYS[11], '*', 'e', ARGV[i]) end
from, to = take()
for i = from, to, 2 do redis.call('ZADD', KEYS[12], ARGV[i], ARGV[i + 1]) end
from, to = take()
if from <= to then redis.call('ZREM', KEYS[12], unpack(ARGV, from, to)) end
from, to = take()
for i = from, to, 2 do redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1]) end
from, to = take()
local count = tonumber(c[7] or 0)
for i = from, to do
  redis.call('SADD', KEYS[3] .. ':' .. math.floor(count / 500), ARGV[i])
  count = count + 1
end
if from <= to then set('dn', count) end
from, to = take()
if from <= to then
  local id
  for i = from, to do id = redis.call('XADD', KEYS[13], 'MAXLEN', '~', ARGV[17], '*', 'e', ARGV[i], 't', top) end
  set(ARGV[18], id .. '/' .. top)
  if ARGV[19] ~= '' then redis.call('HSET', KEYS[13] .. 'names', ARGV[19], ARGV[7]) end
end
redis.call('HSET', KEYS[1], unpack(fields))
if ARGV[8] == 'live' then
  redis.call('ZADD', KEYS[5], ARGV[6], ARGV[7])
elseif ARGV[8] == 'closed' then
  redis.call('ZREM', KEYS[5], ARGV[7])
  redis.call('ZADD', KEYS[6], ARGV[6], ARGV[7])
end
return {'ok', tostring(top), tag, c[8] or redis.call('HGET', KEYS[1], 'epoch')}
