-- One seal of the ledger behind the one before, if that still is the last: of hubs that seal at once one does.
-- KEYS  1 sealed  2 seals     ARGV  1 number of the last one  2 number  3 its code  4 the seal  5 seals kept
--       6.. partition, place up to which it is sealed now
if (redis.call('HGET', KEYS[1], 'n') or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'n', ARGV[2], 'mac', ARGV[3])
if #ARGV > 5 then redis.call('HSET', KEYS[1], unpack(ARGV, 6)) end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', 'e', ARGV[4])
return 1
