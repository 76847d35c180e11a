-- The oldest entry that a monitor was shown, noted once, while it is there; for the ledger. KEYS 1 c  ARGV 1 monitor_id 2 offset
if redis.call('HGET', KEYS[1], 'm.id') ~= ARGV[1] then return 0 end
local noted = redis.call('HGET', KEYS[1], 'm.from')
if noted and string.sub(noted, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' then return 0 end
redis.call('HSET', KEYS[1], 'm.from', ARGV[1] .. ' ' .. ARGV[2])
return 1
