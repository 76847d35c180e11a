-- Cuts the leases of one conversation's monitor to what one lease may be. KEYS 1 due 2 c   ARGV 1 member of due 2 furthest end
local fields = redis.call('HGETALL', KEYS[2])
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 3) == 'ml:' and tonumber(fields[i + 1]) > tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[2], fields[i], ARGV[2])
  end
end
return redis.call('ZADD', KEYS[1], 'XX', 'LT', ARGV[2], ARGV[1])
