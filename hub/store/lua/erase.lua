-- Takes away everything that is kept under one conversation's name, and says so in the ledger; nothing where somebody was
-- faster. An entry in the board's log tells the boards to drop it: by its name in the ledger, as its id may be a person's.
-- KEYS  1 c  2 t  3 d  4 p  5 live  6 closed  7 board:<org>  8 bt:<org>  9 o  10 due:<connector>  11 g  12 due  13 ledger
-- ARGV  1 version  2 monitor's version  3 member '<org>/<conversation>'  4 name in the ledger  5 tag
--       6 '1' = forget whose name it is  7 ledger_entries_max  8.. ledger lines
local c = redis.call('HMGET', KEYS[1], 'version', 'mv', 'dn', 'top')
if not c[1] then
  redis.call('ZREM', KEYS[5], ARGV[3])
  redis.call('ZREM', KEYS[6], ARGV[3])
  redis.call('ZREM', KEYS[12], 'lease:' .. ARGV[3], 'wrapup:' .. ARGV[3], 'erase:' .. ARGV[3])
  if ARGV[6] == '1' then redis.call('HDEL', KEYS[13] .. 'names', ARGV[4]) end
  return 'gone'
end
if c[1] ~= ARGV[1] or (c[2] or '') ~= ARGV[2] then return 'conflict' end
local said
for i = 8, #ARGV do said = redis.call('XADD', KEYS[13], 'MAXLEN', '~', ARGV[7], '*', 'e', ARGV[i], 't', c[4]) end
local gone = {KEYS[1], KEYS[2], KEYS[4], KEYS[9], KEYS[11]}
for k = 0, math.floor((c[3] or 0) / 500) do gone[#gone + 1] = KEYS[3] .. ':' .. k end
redis.call('UNLINK', unpack(gone))
redis.call('ZREM', KEYS[5], ARGV[3])
redis.call('ZREM', KEYS[6], ARGV[3])
redis.call('ZREM', KEYS[10], ARGV[3])
redis.call('ZREM', KEYS[12], 'lease:' .. ARGV[3], 'wrapup:' .. ARGV[3], 'erase:' .. ARGV[3])
if ARGV[6] == '1' then
  redis.call('HDEL', KEYS[13] .. 'names', ARGV[4])
else -- when its last line was written: once that has made room, nobody asks for the name any more
  redis.call('HSET', KEYS[13] .. 'names', ARGV[4], ARGV[3] .. ' ' .. string.match(said, '^%d+'))
end
local b = redis.call('HMGET', KEYS[8], 'top', 'tag')
if b[1] then
  local top, body = b[1] + 1, 'D' .. ARGV[4]
  local at = string.format('%d-%s', top, ARGV[5])
  redis.call('XADD', KEYS[7], 'MAXLEN', '~', 4000, at, 'h', '-', 'e', body)
  redis.call('SPUBLISH', KEYS[7], at .. ' ' .. b[2] .. ' - ' .. body)
  redis.call('HSET', KEYS[8], 'top', top, 'tag', ARGV[5])
end
return 'ok'
