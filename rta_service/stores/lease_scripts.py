"""What holders of a lease do in the store in one step each; both keys in one cluster slot."""

from typing import Final

TAKE_FENCED: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
if not holder then
  redis.call('INCR', KEYS[2])
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return tonumber(redis.call('GET', KEYS[2]))
"""
"""KEYS lease, fence. ARGV holder, life_ms. Gives the fencing token, or 0 while another one holds it."""

GIVE_BACK: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
"""
"""KEYS lease. ARGV holder."""
