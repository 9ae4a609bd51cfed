package signing

import (
	"errors"
	"strconv"
	"time"
)

// timeFormat is how a dialect writes the signing time.
type timeFormat struct {
	parse func(string) (time.Time, error)
	write func(time.Time) string
}

// beijing is the zone of the wall times: GMT+8, without summer time.
var beijing = time.FixedZone("GMT+8", 8*60*60)

const (
	wallLayout = "2006-01-02 15:04:05"
	zoneLayout = "2006-01-02 15:04:05.000-0700"
)

var (
	unixSeconds = timeFormat{
		parse: func(s string) (time.Time, error) {
			n, err := parseDigits(s, "Unix seconds")
			return time.Unix(n, 0), err
		},
		write: func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) },
	}
	unixMillis = timeFormat{
		parse: func(s string) (time.Time, error) {
			n, err := parseDigits(s, "Unix milliseconds")
			return time.UnixMilli(n), err
		},
		write: func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) },
	}
	wallTime = timeFormat{
		parse: func(s string) (time.Time, error) {
			t, err := time.ParseInLocation(wallLayout, s, beijing)
			if err != nil || len(s) != len(wallLayout) {
				return time.Time{}, errors.New("write yyyy-MM-dd HH:mm:ss in GMT+8")
			}
			return t, nil
		},
		write: func(t time.Time) string { return t.In(beijing).Format(wallLayout) },
	}
	// zoneTime is jd's: with milliseconds and zone, or a wall time.
	zoneTime = timeFormat{
		parse: func(s string) (time.Time, error) {
			if t, err := time.Parse(zoneLayout, s); err == nil {
				return t, nil
			}
			t, err := wallTime.parse(s)
			if err != nil {
				return time.Time{}, errors.New("write yyyy-MM-dd HH:mm:ss.SSSZ, or yyyy-MM-dd HH:mm:ss in GMT+8")
			}
			return t, nil
		},
		write: func(t time.Time) string { return t.In(beijing).Format(zoneLayout) },
	}
	// secondsOrWallTime is doudian's: its calls to a merchant carry wall times.
	secondsOrWallTime = timeFormat{
		parse: func(s string) (time.Time, error) {
			if allDigits(s) {
				return unixSeconds.parse(s)
			}
			t, err := wallTime.parse(s)
			if err != nil {
				return time.Time{}, errors.New("write Unix seconds, or yyyy-MM-dd HH:mm:ss in GMT+8")
			}
			return t, nil
		},
		write: unixSeconds.write,
	}
)

// parseDigits reads a number: no sign, no space.
func parseDigits(s, unit string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || !allDigits(s) {
		return 0, errors.New("write " + unit)
	}
	return n, nil
}
