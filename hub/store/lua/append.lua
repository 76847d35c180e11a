-- One message, receipt, panel or sign of typing into one conversation: refused, known already, or written; never half.
-- The state is neither decoded nor touched, so a message and a command never make each other try again.
-- KEYS  1 c  2 t  3 d  4 p  5 live  6 board:<org>  7 bt:<org>  8 o  9 due:<connector>      (one hash tag)
-- ARGV  1 kind: message | receipt | panel | typing | draft   2 connector that must own it ('' = the hub itself asks)
--       3 participant who acts ('@' = the customer, '' = nobody in particular)
--       4 what the field `owner` must be: '<participant> <epoch>' ('' = being connected is enough)
--       5, 6 hashes that make a repeat ('' = none)   7 tag   8 at (ms)   9 member '<org>/<conversation>'
--       10 body before the participant   11 body after it   12 panel's name   13 panel's content ('' = removed)
--       14 action for the platform ('' = none)   15 transcript_entries_max   16 panels_max
--       17 audience   18 where the platform's wake-up is published ('' = nowhere)   19 now (ms)
local kind, who = ARGV[1], ARGV[3]
local c = redis.call('HMGET', KEYS[1], 'top', 'tag', 'conn', 'ended', 'owner', 'm.id', 'ctop', 'cust', 'dn', 'awaiting', 'messages', 'unanswered', 'epoch')
local top = c[1]
if not top then return {'unknown'} end
if ARGV[2] ~= '' and c[3] ~= '' and c[3] ~= ARGV[2] then return {'unknown'} end
local sets = math.floor((c[9] or 0) / 500)
local function known(hash, besides)
  for k = 0, sets do
    if k ~= besides and redis.call('SISMEMBER', KEYS[3] .. ':' .. k, hash) == 1 then return true end
  end
  return false
end
-- A repeat is told as one, whatever else there would be to say against it.
local function refused(answer)
  for i = 5, 6 do
    if ARGV[i] ~= '' and known(ARGV[i]) then return {'duplicate', c[13]} end
  end
  return answer
end
if c[4] and kind ~= 'receipt' then return refused({'ended'}) end
if who == '@' then who = c[8] end
local said, purpose = '', ''
if who ~= '' then
  local line = redis.call('HGET', KEYS[1], 'p:' .. who)
  if not line then return refused({'stale', c[5] or ''}) end
  purpose, said = string.match(line, '^(%S+) (.*)$')
end
if ARGV[4] ~= '' and c[5] ~= ARGV[4] then return refused({'stale', c[5] or ''}) end
if kind == 'draft' then
  redis.call('HSET', KEYS[1], 'draft:' .. who, ARGV[11])
  return {'ok', '', '', c[13]}
end
-- Most are new: adding tells so, and asks nothing before. False for a repeat, of which nothing stays.
local function remember()
  local count, before = tonumber(c[9] or 0), nil
  for i = 5, 6 do
    if ARGV[i] ~= '' then
      local place = math.floor(count / 500)
      if known(ARGV[i], place) or redis.call('SADD', KEYS[3] .. ':' .. place, ARGV[i]) == 0 then
        if before then redis.call('SREM', before, ARGV[5]) end
        return false
      end
      before = KEYS[3] .. ':' .. place
      count = count + 1
    end
  end
  return count
end
local body = ARGV[10] .. said .. ARGV[11]
local monitor = c[6] or '-'
if kind == 'typing' then
  local seen = remember()
  if not seen then return {'duplicate', c[13]} end
  -- the customer sees the owner typing, nobody else
  local audience = 'as'
  if purpose ~= 'customer' and string.match(c[5] or '', '^%S+') == who then audience = 'asc' end
  redis.call('SPUBLISH', KEYS[2], '~ ' .. audience .. ',0,' .. monitor .. ' ' .. body)
  redis.call('ZADD', KEYS[5], 'XX', ARGV[19], ARGV[9])
  if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'dn', seen) end
  return {'ok', '', '', c[13]}
end
if kind == 'panel' and ARGV[13] ~= '' and redis.call('HEXISTS', KEYS[4], ARGV[12]) == 0 and redis.call('HLEN', KEYS[4]) >= tonumber(ARGV[16]) then
  return refused({'panels'})
end
local count = remember()
if not count then return {'duplicate', c[13]} end

-- From here on nothing refuses: a script is not rolled back.
if kind == 'panel' then
  if ARGV[13] == '' then redis.call('HDEL', KEYS[4], ARGV[12]) else redis.call('HSET', KEYS[4], ARGV[12], ARGV[13]) end
end
local offset, ctop = top + 1, tonumber(c[7] or 0)
if string.find(ARGV[17], 'c', 1, true) then ctop = ctop + 1 end
local header = ARGV[17] .. ',' .. ctop .. ',' .. monitor
local id = string.format('%d-%s', offset, ARGV[7])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[15], id, 'h', header, 'e', body)
redis.call('SPUBLISH', KEYS[2], id .. ' ' .. c[2] .. ' ' .. header .. ' ' .. body)
local fields = {'top', offset, 'tag', ARGV[7], 'ctop', ctop, 'dn', count}
local function set(name, value) fields[#fields + 1] = name; fields[#fields + 1] = value end
local flipped = false
local messages = tonumber(c[11] or 0)
if kind == 'message' then
  messages = messages + 1
  set('messages', messages)
  local awaiting = 'customer'
  if purpose == 'customer' then
    awaiting = 'agent'
    set('unanswered', (c[12] or 0) + 1)
  elseif c[12] and c[12] ~= '0' then
    set('unanswered', 0)
  end
  if c[10] ~= awaiting then
    flipped = awaiting
    set('awaiting', awaiting)
    set('since', ARGV[8])
  end
end
if flipped then
  local b = redis.call('HMGET', KEYS[7], 'top', 'tag')
  local btop = (b[1] or 0) + 1
  local conversation = string.match(ARGV[9], '/(.*)$')
  local patch = 'P{"conversation_id":"' .. conversation .. '","awaiting":"' .. flipped .. '","awaiting_since":' .. ARGV[8] .. ',"messages":' .. messages .. '}'
  local at = string.format('%d-%s', btop, ARGV[7])
  redis.call('XADD', KEYS[6], 'MAXLEN', '~', 4000, at, 'h', '-', 'e', patch)
  redis.call('SPUBLISH', KEYS[6], at .. ' ' .. (b[2] or '0') .. ' - ' .. patch)
  redis.call('HSET', KEYS[7], 'top', btop, 'tag', ARGV[7])
  set('row_at', btop)
end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('ZADD', KEYS[5], 'XX', ARGV[19], ARGV[9])
if ARGV[14] ~= '' then
  if redis.call('RPUSH', KEYS[8], ARGV[14]) == 1 then
    redis.call('ZADD', KEYS[9], 0, ARGV[9])
    if ARGV[18] ~= '' then redis.call('SPUBLISH', ARGV[18], '1') end
  end
end
return {'ok', tostring(offset), ARGV[7], c[13]}
