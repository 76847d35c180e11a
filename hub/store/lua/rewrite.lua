-- Writes a board's log anew, with entries that say nothing in place of a conversation's; a stream keeps the bytes of what
-- was deleted in it. Positions and tags stay, so that no follower notices.
-- KEYS 1 board:<org>     ARGV .. ids of conversations
local entries = redis.call('XRANGE', KEYS[1], '-', '+')
local found = 0
for _, entry in ipairs(entries) do
  local body = entry[2][4]
  for i = 1, #ARGV do
    if string.find(body, '"conversation_id":"' .. ARGV[i] .. '"', 1, true) then
      entry[2][4] = 'E'
      found = found + 1
      break
    end
  end
end
if found == 0 then return 0 end
redis.call('UNLINK', KEYS[1])
for _, entry in ipairs(entries) do redis.call('XADD', KEYS[1], entry[1], unpack(entry[2])) end
return found
