-- One conversation as of one moment. KEYS 1 c 2 p 3 t   ARGV 1 entries
return {redis.call('TIME'), redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', ARGV[1])}
