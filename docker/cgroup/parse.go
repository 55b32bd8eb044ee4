package cgroup

import (
	"bytes"
	"errors"
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

var (
	errMalformed = errors.New("its content makes no sense")
	errTooLong   = errors.New("it is longer than any such file")
	// errAbsent: this kernel does not tell; the signal is not set and nobody is
	// to blame.
	errAbsent = errors.New("this kernel does not tell")
)

// decimal reads the digits at the start of b. It refuses none and more than an
// int64 holds: no counter of a kernel comes near, and nothing ever wraps.
func decimal(b []byte) (v int64, rest []byte, ok bool) {
	i := 0
	for ; i < len(b); i++ {
		d := int64(b[i] - '0')
		if b[i] < '0' || b[i] > '9' {
			break
		}
		if v > (math.MaxInt64-d)/10 {
			return 0, b, false
		}
		v = v*10 + d
	}
	return v, b[i:], i > 0
}

// whole is decimal for a text that is one number and nothing else.
func whole(b []byte) (int64, bool) {
	v, rest, ok := decimal(b)
	return v, ok && len(rest) == 0
}

// single reads a file of one number.
func single(b []byte) (int64, error) {
	v, ok := whole(firstLine(b))
	if !ok {
		return 0, errMalformed
	}
	return v, nil
}

// firstLine is the text before the first newline, or all of it.
func firstLine(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i]
	}
	return b
}

// nextLine cuts a line. A last line without its newline is a truncated one, and
// is left out: half a number is a wrong number.
func nextLine(b []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}

// pair splits "key value".
func pair(line []byte) (key, value []byte) {
	i := bytes.IndexByte(line, ' ')
	if i < 0 {
		return line, nil
	}
	return line[:i], line[i+1:]
}

// size turns a file's number into a level of memory; more than any machine has
// makes no sense.
func size(v int64) (knowledge.Bytes, error) {
	if v > int64(knowledge.MaxBytes) {
		return 0, errMalformed
	}
	return knowledge.Bytes(v), nil
}

// limit reads a memory limit: "max", and v1's page-aligned 2^63, are none.
func limit(b []byte) (knowledge.Bytes, error) {
	line := firstLine(b)
	if string(line) == "max" {
		return 0, nil
	}
	v, ok := whole(line)
	if !ok {
		return 0, errMalformed
	}
	if v > int64(knowledge.MaxBytes) {
		return 0, nil
	}
	return knowledge.Bytes(v), nil
}

// micros turns microseconds into a duration.
func micros(v int64) (time.Duration, bool) {
	return time.Duration(v) * time.Microsecond, v <= math.MaxInt64/int64(time.Microsecond)
}

// parseCPUStatV1 reads cpu.stat of v1: counts, and nanoseconds.
func parseCPUStatV1(b []byte, s *knowledge.Sample) error {
	const all = 1<<3 - 1
	seen := 0
	for line, rest, ok := nextLine(b); ok; line, rest, ok = nextLine(rest) {
		key, value := pair(line)
		v, good := whole(value)
		switch string(key) {
		case "nr_periods":
			s.Periods = uint64(v)
			seen |= 1
		case "nr_throttled":
			s.Throttled = uint64(v)
			seen |= 2
		case "throttled_time":
			s.ThrottledTime = time.Duration(v)
			seen |= 4
		default:
			continue
		}
		if !good {
			return errMalformed
		}
	}
	if seen != all {
		return errMalformed
	}
	s.Have |= knowledge.HasThrottle
	return nil
}

// parseCPUStatV2 reads cpu.stat of v2. Without the cpu controller it tells the
// usage alone; with it, throttling too.
func parseCPUStatV2(b []byte, s *knowledge.Sample) error {
	const usage, throttle = 1, 2 | 4 | 8
	seen := 0
	for line, rest, ok := nextLine(b); ok; line, rest, ok = nextLine(rest) {
		key, value := pair(line)
		v, good := whole(value)
		fits := true
		switch string(key) {
		case "usage_usec":
			s.CPUUsage, fits = micros(v)
			seen |= usage
		case "nr_periods":
			s.Periods = uint64(v)
			seen |= 2
		case "nr_throttled":
			s.Throttled = uint64(v)
			seen |= 4
		case "throttled_usec":
			s.ThrottledTime, fits = micros(v)
			seen |= 8
		default:
			continue
		}
		if !good || !fits {
			return errMalformed
		}
	}
	if seen&usage == 0 || (seen&throttle != 0 && seen&throttle != throttle) {
		return errMalformed
	}
	s.Have |= knowledge.HasCPU
	if seen&throttle != 0 {
		s.Have |= knowledge.HasThrottle
	}
	return nil
}

// parseCPUMax reads cpu.max of v2, "max 100000" or "20000 100000", in microseconds.
func parseCPUMax(b []byte, s *knowledge.Sample) error {
	quota, period := pair(firstLine(b))
	p, ok := whole(period)
	if !ok {
		return errMalformed
	}
	if string(quota) == "max" {
		return setQuota(s, 0, p)
	}
	q, ok := whole(quota)
	if !ok || q == 0 {
		return errMalformed
	}
	return setQuota(s, q, p)
}

// setQuota stores a quota of quota µs in each period µs; 0 µs is no limit. More
// than MaxCPU becomes MaxCPU: it limits nothing that exists.
func setQuota(s *knowledge.Sample, quota, period int64) error {
	if period <= 0 || period > maxPeriod.Microseconds() {
		return errMalformed
	}
	s.Period = time.Duration(period) * time.Microsecond
	if quota > int64(knowledge.MaxCPU/knowledge.OneCPU)*period {
		s.Quota = knowledge.MaxCPU
		return nil
	}
	s.Quota = nanoCPU(quota, period)
	return nil
}

// nanoCPU is quota/period in billionths, rounded to the nearest. The period is a
// second at most, so that 4096 cores of it times 1e9 still fit.
func nanoCPU(quota, period int64) knowledge.NanoCPU {
	whole, part := quota/period, quota%period
	return knowledge.NanoCPU(whole*1e9 + (part*1e9+period/2)/period)
}

// parseEvents reads memory.events of v2.
func parseEvents(b []byte, s *knowledge.Sample) error {
	seen := 0
	for line, rest, ok := nextLine(b); ok; line, rest, ok = nextLine(rest) {
		key, value := pair(line)
		v, good := whole(value)
		switch string(key) {
		case "high":
			s.HighEvents = uint64(v)
			seen |= 1
		case "max":
			s.MaxEvents = uint64(v)
			seen |= 2
		case "oom":
			s.OOM = uint64(v)
			seen |= 4
		case "oom_kill":
			s.OOMKills = uint64(v)
			seen |= 8
		default:
			continue
		}
		if !good {
			return errMalformed
		}
	}
	if seen != 1<<4-1 {
		return errMalformed
	}
	return nil
}

// parseOOMControl reads memory.oom_control of v1, whose oom_kill came with Linux
// 4.13. v1 does not count the times that a limit could not be met: each kill is
// taken for one.
func parseOOMControl(b []byte, s *knowledge.Sample) error {
	for line, rest, ok := nextLine(b); ok; line, rest, ok = nextLine(rest) {
		key, value := pair(line)
		if string(key) != "oom_kill" {
			continue
		}
		v, good := whole(value)
		if !good {
			return errMalformed
		}
		s.OOMKills, s.OOM = uint64(v), uint64(v)
		return nil
	}
	return errAbsent
}
