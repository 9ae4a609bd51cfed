-- Adds to the use of one quota what a node allowed while Redis did not answer.
-- KEYS[1]: the counter. ARGV[1], doubles, little endian: the unit (1 day,
-- 2 month), the start of its window, the use, and the seconds to its end.
local unit, start, used, left = struct.unpack('<dddd', ARGV[1])
local s, ns, day, dayUsed, month, monthUsed = read(redis.call('GET', KEYS[1]))
local function added(begun, before)
	if start > begun then
		return start, used
	elseif start == begun then
		return begun, before + used
	end
	return begun, before
end
if unit == 1 then
	day, dayUsed = added(day, dayUsed)
else
	month, monthUsed = added(month, monthUsed)
end
local debt = math.max(0, redis.call('PTTL', KEYS[1])) * 1e6
write(KEYS[1], debt, left, 0, false, s, ns, day, dayUsed, month, monthUsed)
return ''
