-- Takes up to n calls of one limit at once, or gives back those that were not
-- made. KEYS[1]: the counter. ARGV[1], doubles, little endian: now (0: the
-- server's clock), n (negative: give back), the windows, and the limit as for
-- spend.lua. Returns a verdict, now, what was taken, and the state after it.
local now, nano, n, day, dayEnd, month, monthEnd, step, tolerance, dayLimit, monthLimit =
	struct.unpack('<ddddddddddd', ARGV[1])
now, nano = clock(now, nano)
if n > 0 and (now < day or now >= dayEnd or now < month or now >= monthEnd) then
	return struct.pack('<ddd', 4, now, nano)
end
local s, ns, dayAt, dayUsed, monthAt, monthUsed, counted = read(redis.call('GET', KEYS[1]))
local debt = 0
if step > 0 then
	debt = math.max(0, (s - now) * 1e9 + (ns - nano))
	if debt > tolerance + 1e9 then
		debt = tolerance -- as Rate.settle does
	end
	n = math.min(n, math.max(0, math.floor((tolerance - debt) / step)))
end
if n >= 0 then
	if dayLimit > 0 then
		dayAt, dayUsed = settled(day, dayAt, dayUsed, now)
		n = math.min(n, math.max(0, dayLimit - dayUsed))
	end
	if monthLimit > 0 then
		monthAt, monthUsed = settled(month, monthAt, monthUsed, now)
		n = math.min(n, math.max(0, monthLimit - monthUsed))
	end
end
if n ~= 0 then
	debt = math.max(0, debt + n * step)
	if step > 0 then
		s, ns = at(now, nano, debt)
	end
	-- What was taken in another window goes back to none.
	if dayLimit > 0 and (n > 0 or dayAt == day) then
		dayUsed = math.max(0, dayUsed + n)
	end
	if monthLimit > 0 and (n > 0 or monthAt == month) then
		monthUsed = math.max(0, monthUsed + n)
	end
	write(KEYS[1], debt, dayLimit > 0 and math.max(1, dayEnd - now) or 0, monthLimit > 0 and math.max(1, monthEnd - now) or 0,
		counted, s, ns, dayAt, dayUsed, monthAt, monthUsed)
end
return struct.pack('<ddddddd', 0, now, nano, n, debt, dayUsed, monthUsed)
