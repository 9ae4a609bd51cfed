-- What all scripts know of a counter's value: the theoretical arrival time of
-- its rate (seconds, nanoseconds) and, once quotas apply, start and use of its
-- day and its month.
--
-- Lua counts in doubles. Seconds and nanoseconds are kept apart and only their
-- distance from now is computed: exact to the nanosecond while it is below
-- 2^53 ns, that is for allowances that fill within 104 days; rounded to at
-- most 128 ns for longer ones. The fastest rate is one call a nanosecond.
local slack = 1000 -- ms that a value outlives its use; clocks may be set back by the usual skew

-- clock is the time to count with: the server's, so that those of the nodes do
-- not matter, or the one given.
local function clock(now, nano)
	if now == 0 then
		local t = redis.call('TIME')
		return tonumber(t[1]), tonumber(t[2]) * 1000
	end
	slack = 3600000 -- a clock that is given may stand still
	return now, nano
end

local function read(value)
	if not value then
		return 0, 0, 0, 0, 0, 0, false
	end
	if #value > 16 then
		local s, ns, day, dayUsed, month, monthUsed = struct.unpack('<dddddd', value)
		return s, ns, day, dayUsed, month, monthUsed, true
	end
	local s, ns = struct.unpack('<dd', value)
	return s, ns, 0, 0, 0, 0, false
end

-- settled moves a count to the window that begins at start, as count.at does.
local function settled(start, begun, used, now)
	if start > begun then
		return start, 0
	elseif start < begun and now < begun - 1 then
		return start, used
	end
	return begun, used
end

-- at is the arrival time that lies debt behind a time.
local function at(now, nano, debt)
	local sum = nano + debt
	local s = math.floor(sum / 1e9)
	return now + s, sum - s * 1e9
end

-- write keeps a value for as long as it matters: debt in ns; dayLeft and
-- monthLeft in s, 0 where no limit applies.
local function write(key, debt, dayLeft, monthLeft, counted, s, ns, day, dayUsed, month, monthUsed)
	local life, value = math.ceil(debt / 1e6), nil
	if counted or dayLeft > 0 or monthLeft > 0 then
		value = struct.pack('<dddddd', s, ns, day, dayUsed, month, monthUsed)
		life = math.max(life, dayLeft * 1000, monthLeft * 1000)
		if counted and monthLeft == 0 then
			life = math.max(life, 32 * 86400000) -- it may hold a month that no limit names now
		end
	else
		value = struct.pack('<dd', s, ns)
	end
	redis.call('SET', key, value, 'PX', life + slack)
end

