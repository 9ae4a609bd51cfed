-- Spends what one call costs, in one atomic step: the nonce first, then all
-- limits are checked, then all of them are charged or none.
--
-- KEYS: a key for each check; then, where there is a nonce, the set of its own
-- bucket and the sets of all other live buckets. All carry the app's hash tag.
-- ARGV[1], doubles, little endian: 10 of the head, 4 for each check, and the
-- 16 bytes of the nonce at its end.
local args = ARGV[1]
local mode, now, nano, day, dayEnd, month, monthEnd, maxNonces, ttl, n, pos = struct.unpack('<dddddddddd', args)
now, nano = clock(now, nano)
if now < day or now >= dayEnd or now < month or now >= monthEnd then
	return struct.pack('<ddd', 4, now, nano)
end

if #KEYS > n then
	local nonce, total = string.sub(args, -16), 0
	for i = n + 2, #KEYS do
		local size = redis.call('SCARD', KEYS[i])
		if size > 0 then
			if redis.call('SISMEMBER', KEYS[i], nonce) == 1 then
				return struct.pack('<ddd', 2, now, nano)
			end
			total = total + size
		end
	end
	local own = KEYS[n + 1]
	if redis.call('SADD', own, nonce) == 0 then
		return struct.pack('<ddd', 2, now, nano)
	end
	local size = redis.call('SCARD', own)
	if total + size > maxNonces then
		redis.call('SREM', own, nonce)
		return struct.pack('<ddd', 3, now, nano)
	end
	if size == 1 then
		redis.call('PEXPIRE', own, ttl)
	end
end
if n == 0 then
	return struct.pack('<ddd', mode, now, nano)
end

local values = redis.call('MGET', unpack(KEYS, 1, n))
local reply, states, refused = {0, now, nano}, {}, mode == 1
for i = 1, n do
	local step, tolerance, dayLimit, monthLimit
	step, tolerance, dayLimit, monthLimit, pos = struct.unpack('<dddd', args, pos)
	local s, ns, dayAt, dayUsed, monthAt, monthUsed, counted = read(values[i])
	local debt, cut = 0, false
	if step > 0 then
		debt = math.max(0, (s - now) * 1e9 + (ns - nano))
		if debt > tolerance + 1e9 then
			debt, cut = tolerance, true -- as Rate.settle does
		end
		if debt + step > tolerance then
			refused = true
		end
	end
	local newDay, newDayUsed, newMonth, newMonthUsed = dayAt, dayUsed, monthAt, monthUsed
	if dayLimit > 0 then
		newDay, newDayUsed = settled(day, dayAt, dayUsed, now)
		refused = refused or newDayUsed >= dayLimit
	end
	if monthLimit > 0 then
		newMonth, newMonthUsed = settled(month, monthAt, monthUsed, now)
		refused = refused or newMonthUsed >= monthLimit
	end
	states[i] = {
		step, debt, s, ns, dayLimit, monthLimit, counted, cut,
		dayAt, dayUsed, monthAt, monthUsed,
		newDay, newDayUsed, newMonth, newMonthUsed,
	}
	reply[3 * i + 1], reply[3 * i + 2], reply[3 * i + 3] = debt, newDayUsed, newMonthUsed
end

for i = 1, n do
	local step, debt, s, ns, dayLimit, monthLimit, counted, cut,
		dayAt, dayUsed, monthAt, monthUsed, newDay, newDayUsed, newMonth, newMonthUsed = unpack(states[i])
	if cut or not refused then
		if not refused then
			debt = debt + step
			dayAt, monthAt = newDay, newMonth
			dayUsed = newDayUsed + (dayLimit > 0 and 1 or 0)
			monthUsed = newMonthUsed + (monthLimit > 0 and 1 or 0)
		end
		if step > 0 then
			s, ns = at(now, nano, debt)
		end
		write(KEYS[i], debt, dayLimit > 0 and dayEnd - now or 0, monthLimit > 0 and monthEnd - now or 0, counted,
			s, ns, dayAt, dayUsed, monthAt, monthUsed)
	end
end
if refused then
	reply[1] = 1
end
return struct.pack('<' .. string.rep('d', #reply), unpack(reply))
