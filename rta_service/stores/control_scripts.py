"""What cost control does in the store in one step each; all keys are in one cluster slot.

Numbers stay whole: a double of Lua is exact up to 2^53, in micros nine thousand million of a
currency.
"""

from typing import Final

NOW_MS: Final = """
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
"""
"""The clock of the server that has a key."""

SAVE: Final = """
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then
  return 0
end
local at = 7
for i = 1, tonumber(ARGV[6]) do
  local known = redis.call('HGET', KEYS[4], ARGV[at])
  if known and tonumber(known) + 1 ~= tonumber(ARGV[at + 1]) then
    return -1
  end
  at = at + 12
end
at = 7
for i = 1, tonumber(ARGV[6]) do
  local unit, journal, money = ARGV[at], KEYS[9 + 2 * i], KEYS[10 + 2 * i]
  redis.call('HSET', KEYS[4], unit, ARGV[at + 1])
  redis.call('RPUSH', journal, ARGV[at + 3])
  if ARGV[at + 11] == '1' then
    redis.call('DEL', journal)
    redis.call('HSET', KEYS[8], unit, ARGV[at + 2])
    redis.call('HDEL', KEYS[9], unit)
  elseif tonumber(ARGV[at + 1]) % tonumber(ARGV[4]) == 0 then
    local middle = redis.call('HGET', KEYS[9], unit)
    if middle then
      redis.call('HSET', KEYS[8], unit, middle)
      redis.call('LTRIM', journal, -tonumber(ARGV[4]), -1)
    end
    redis.call('HSET', KEYS[9], unit, ARGV[at + 2])
  end
  redis.call('HSET', KEYS[3], unit, ARGV[at + 2])
  redis.call('HSET', KEYS[5], unit, ARGV[at + 4])
  redis.call('HSET', KEYS[7], unit, ARGV[at + 5])
  if ARGV[at + 6] == '1' then
    local kept_from, held = math.floor((tonumber(ARGV[at + 10]) - tonumber(ARGV[5])) / 1000), 0
    local found = redis.call('HGETALL', money)
    for j = 1, #found, 2 do
      local second = tonumber(string.match(found[j], '^g(%d+)$') or '')
      if second and second < kept_from then
        redis.call('HDEL', money, found[j])
      elseif second then
        held = held + tonumber(found[j + 1])
      end
    end
    redis.call('HSET', money, 'day', ARGV[at + 7], 'budget', ARGV[at + 8], 'spent', ARGV[at + 9],
      'as_of', ARGV[at + 10], 'held', string.format('%.0f', held))
  else
    redis.call('DEL', money)
  end
  at = at + 12
end
for i = 1, tonumber(ARGV[at]) do
  redis.call('HDEL', KEYS[5], ARGV[at + i])
  redis.call('HDEL', KEYS[7], ARGV[at + i])
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('INCR', KEYS[6])
return 1
"""
"""KEYS 1 fence, 2 cursors, 3 states, 4 versions, 5 orders, 6 orders' count, 7 views, 8 bases,
9 middles, 10 nothing; then journal and money of each unit. ARGV token, shard, cursor, steps between
two checkpoints, how long wins are waited for, how many units; of each: unit, version, state, step,
order, view, whether its money is kept, day, budget, spent, as of, whether the journal begins anew;
how many units are gone, and which."""

EXCHANGE: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local worker, sequence = ARGV[1], tonumber(ARGV[2])
redis.call('ZADD', KEYS[3], now, worker)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now - 600000, 'LIMIT', 0, 8)) do
  redis.call('ZREM', KEYS[3], gone)
  redis.call('HDEL', KEYS[1], gone)
  redis.call('HDEL', KEYS[2], gone)
end
local grants, usages = {}, tonumber(ARGV[4])
for i = 1, usages do
  redis.call('HSET', KEYS[5 + i], worker, ARGV[4 + i])
end
if tonumber(redis.call('HGET', KEYS[1], worker) or '0') >= sequence then
  local told = redis.call('HGET', KEYS[2], worker)
  grants = told and cmsgpack.unpack(told) or {}
else
  local live = redis.call('ZCOUNT', KEYS[3], now - 2000, '+inf')
  local at = 5 + usages
  for i = 1, tonumber(ARGV[at]) do
    local money = KEYS[5 + usages + i]
    local found = redis.call('HMGET', money, 'budget', 'spent', 'held')
    if found[1] then
      local left = tonumber(found[1]) - tonumber(found[2]) - tonumber(found[3])
      local grant = math.floor(math.min(tonumber(ARGV[at + 2 * i]), left / (2 * live)))
      if grant >= 1 then
        local micros = string.format('%.0f', grant)
        redis.call('HINCRBY', money, 'held', micros)
        redis.call('HINCRBY', money, 'g' .. time[1], micros)
        grants[#grants + 1] = ARGV[at + 2 * i - 1]
        grants[#grants + 1] = micros
        grants[#grants + 1] = string.format('%.0f', now + 5000)
      end
    end
  end
  redis.call('HSET', KEYS[1], worker, ARGV[2])
  redis.call('HSET', KEYS[2], worker, cmsgpack.pack(grants))
end
local count, orders = redis.call('GET', KEYS[5]) or '0', false
if count ~= ARGV[3] then
  orders = redis.call('HGETALL', KEYS[4])
end
return {string.format('%.0f', now), count, grants, orders}
"""
"""KEYS 1 sequences, 2 grants told last, 3 workers, 4 orders, 5 orders' count; then the usage of each
unit, then the money of each wanted one. ARGV worker, sequence, count of the orders it has, how many
usages; each; how many wants; of each unit and micros."""
